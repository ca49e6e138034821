// One job from the queue to its end. The thread that calls Run() walks the states in a straight
// line; every other call only leaves a mark that this thread acts on.
#ifndef MPILAUNCH_LAUNCHER_JOB_RUN_H_
#define MPILAUNCH_LAUNCHER_JOB_RUN_H_

#include <grpcpp/client_context.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/blob_store.h"
#include "common/init_loop.h"
#include "job.pb.h"
#include "launcher/cluster.h"
#include "launcher/mpi_installation.h"
#include "launcher/mpirun_command.h"
#include "launcher/mpirun_noise.h"
#include "launcher/own_worker.h"
#include "launcher/stager.h"

namespace mpilaunch {

// Where a job's events go. Thread-safe, never blocks.
class JobEvents {
 public:
  virtual ~JobEvents() = default;
  // False: the client reads slowly, pause the output until JobRun::OutputRoom().
  virtual bool Send(v1::RunEvent event) = 0;
};

// What every job of a frontend shares. All outlive the jobs.
struct JobServices {
  Cluster* cluster = nullptr;
  BlobStore* blobs = nullptr;
  InitLoop* init = nullptr;
  OwnWorker* own_worker = nullptr;
  MpiInstallation mpi;
  std::string rsh_agent;  // absolute path of mpilaunch-rsh
  std::string rsh_socket;
  std::string run_directory;  // a folder per job is made in it
  std::function<absl::Time()> clock = absl::Now;
};

// All that lies in the job's directory: the program, when it is pushed, and spec.files.
google::protobuf::RepeatedPtrField<v1::StagedFile> FilesOf(const v1::JobSpec& spec);

class JobRun {
 public:
  // `blobs`: of all FilesOf(spec).
  JobRun(std::string id, v1::JobSpec spec, HeldBlobs blobs, const JobServices& services,
         std::shared_ptr<JobEvents> events);

  // The whole life, blocking; the exit event is sent last, when nothing of the job is left
  // anywhere.
  void Run();

  // Any thread, none blocks. What comes after the end is ignored.
  void WriteStdin(std::string bytes);
  void CloseStdin();
  void Signal(int signal);  // INT, TERM, HUP, QUIT end the job (twice: at once), USR1 and USR2
                            // reach the ranks
  void Cancel();            // by `mpilaunch cancel`
  void ClientGone();
  void OutputRoom();

  // For the rsh agent's connections. NOT_FOUND: no worker of this job.
  absl::StatusOr<std::shared_ptr<WorkerClient>> FindWorker(const std::string& name) const;
  // A daemon's call. False: the job is ending, do not start it. `context` must stay until
  // DaemonEnded.
  bool DaemonStarting(grpc::ClientContext* context);
  void DaemonStarted();
  void DaemonEnded(grpc::ClientContext* context, const absl::Status& status);

  v1::JobInfo Info() const;

 private:
  struct End {
    int code = 0;
    v1::JobState state = v1::FAILED;
    std::string error;
  };

  End Execute();
  absl::StatusOr<Allocation> AcquireSlots();
  absl::Status Stage(const Allocation& allocation);
  absl::Status StartMpirun(const Allocation& allocation);
  MpirunRequest DescribeLaunch(const Allocation& allocation, const std::string& hostfile) const;
  ExitInfo AwaitMpirun();
  End Explain(const ExitInfo& exit) const;
  void CleanUp(const Allocation& allocation);

  void RequestEnd(End end);
  void EnterState(v1::JobState state);
  bool SendStderr(std::string bytes);
  void Notice(std::string text);
  void Phase(std::string name);

  bool Exited() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return exit_.has_value(); }
  bool ExitedOrEnding() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return exit_.has_value() || end_.has_value();
  }
  bool DaemonGoneOrEnd() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return daemon_gone_ || ExitedOrEnding();
  }
  bool ExitedOrForced() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return exit_.has_value() || forced_;
  }
  bool NoDaemons() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return daemons_.empty(); }
  bool Ending() const;
  bool OwnWorkerFailed() const;
  bool OnlyComplains() const;
  bool Lost(const std::string& worker) const;

  const std::string id_;
  const v1::JobSpec spec_;
  const JobServices& services_;
  const std::shared_ptr<JobEvents> events_;
  const std::string directory_;  // hostfile and mpirun's session files

  HeldBlobs blobs_;    // until they are on the workers; of the job's thread
  MpirunNoise noise_;  // of the init loop's thread

  mutable absl::Mutex mutex_;
  v1::JobInfo info_ ABSL_GUARDED_BY(mutex_);
  WorkerClients workers_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> lost_ ABSL_GUARDED_BY(mutex_);  // workers that went away while it ran
  pid_t mpirun_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string early_stdin_
      ABSL_GUARDED_BY(mutex_);  // arrived before mpirun; bounded by the client's credit
  bool stdin_closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<ExitInfo> exit_ ABSL_GUARDED_BY(mutex_);
  std::optional<End> end_ ABSL_GUARDED_BY(mutex_);  // somebody wants the job to end, and why
  bool forced_ ABSL_GUARDED_BY(mutex_) = false;     // asked twice: no grace
  std::set<grpc::ClientContext*> daemons_ ABSL_GUARDED_BY(mutex_);
  bool daemon_gone_ ABSL_GUARDED_BY(mutex_) = false;
  uint32_t daemons_started_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string daemon_error_ ABSL_GUARDED_BY(mutex_);  // the first daemon that could not start
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_JOB_RUN_H_
