// Job directories on a worker: JOB_ROOT/ID/work holds the job's files, JOB_ROOT/ID/tmp Open MPI's
// own.
#ifndef MPILAUNCH_AGENT_STAGING_H_
#define MPILAUNCH_AGENT_STAGING_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/blob_store.h"
#include "common/init_loop.h"
#include "common/unique_fd.h"
#include "process.pb.h"

namespace mpilaunch {

// INVALID_ARGUMENT unless 1 to 12 decimal digits: what is safe as a folder's name.
absl::Status ValidateJobId(absl::string_view job);

// Thread-safe. Two calls for one job run one after the other.
class Staging {
 public:
  struct Options {
    std::string job_root;        // absolute; best on the file system of `blobs`
    BlobStore* blobs = nullptr;  // both outlive the Staging
    InitLoop* init = nullptr;
  };

  // Makes and claims the job root as ClaimPrivateFolder does, and removes the job directories that
  // an earlier agent left there.
  static absl::StatusOr<std::unique_ptr<Staging>> Open(Options options);

  // Makes the job's directory anew, links the files into it and checks that the program can start
  // here. Blocks, up to some 10 s where the file system or the dynamic loader is slow. On an error
  // nothing stays. INVALID_ARGUMENT: a bad id, name or digest. ABORTED: a blob is missing.
  // NOT_FOUND: a program that the worker should have is not here. FAILED_PRECONDITION: the program
  // cannot start here, and why.
  absl::Status Stage(const v1::StageRequest& request);

  // Removes the job's directory, never following a symlink. OK when there is none.
  absl::Status EndJob(const std::string& job);

  // FAILED_PRECONDITION, for people: pushed programs cannot start in the job root (noexec).
  absl::Status CheckPrograms() const;

  std::string WorkDirectory(const std::string& job) const;
  std::string TmpDirectory(const std::string& job) const;

 private:
  class JobLock;

  Staging(Options options, UniqueFd claim);

  std::string JobDirectory(const std::string& job) const;
  absl::Status Fill(const v1::StageRequest& request);
  absl::Status LinkBlob(const std::string& job, const v1::StagedFile& file);
  absl::Status CheckLaunch(const v1::StageRequest& request);
  absl::Status CheckLibrariesOnce(const v1::StageRequest& request, const std::string& interpreter);

  const Options options_;
  const UniqueFd claim_;
  absl::Mutex mutex_;
  absl::flat_hash_set<std::string> busy_jobs_ ABSL_GUARDED_BY(mutex_);
  // Programs whose libraries were all found, with the library path they were looked for in.
  absl::flat_hash_set<std::string> complete_programs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_STAGING_H_
