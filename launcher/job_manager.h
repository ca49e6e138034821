// All jobs of this frontend: numbers them, runs each on a thread of its own, remembers the last
// ended ones.
#ifndef MPILAUNCH_LAUNCHER_JOB_MANAGER_H_
#define MPILAUNCH_LAUNCHER_JOB_MANAGER_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "launcher/job_run.h"

namespace mpilaunch {

// INVALID_ARGUMENT unless the frontend may run this: names without folders, bounded sizes.
absl::Status ValidateJobSpec(const v1::JobSpec& spec);

// Thread-safe.
class JobManager {
 public:
  // `counter_path` keeps the last job number over restarts.
  static absl::StatusOr<std::unique_ptr<JobManager>> Open(JobServices services,
                                                          std::string counter_path);

  // Refuses new jobs, ends the others and waits until nothing of them is left.
  void Stop();

  // Starts the job's thread; `on_end` runs on it, last. RESOURCE_EXHAUSTED: too many jobs are
  // waiting. ABORTED: a file is not in the store, bring it and try again.
  absl::StatusOr<std::shared_ptr<JobRun>> Submit(const v1::JobSpec& spec,
                                                 std::shared_ptr<JobEvents> events,
                                                 std::function<void()> on_end);
  absl::Status Cancel(const std::string& id);
  std::shared_ptr<JobRun> Find(const std::string& id) const;  // active ones only; nullptr
  std::vector<v1::JobInfo> List() const;                      // by number

 private:
  JobManager(JobServices services, std::string counter_path, uint64_t last_id);
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return active_.empty(); }
  absl::Status ReserveIds() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Retire(const std::string& id);

  const JobServices services_;
  const std::string counter_path_;
  mutable absl::Mutex mutex_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_);
  uint64_t reserved_id_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::shared_ptr<JobRun>> active_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::JobInfo> ended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_JOB_MANAGER_H_
