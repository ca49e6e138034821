// The agent's Process service: stages a job's files, runs its commands, ends it without leaving
// anything.
#ifndef MPILAUNCH_AGENT_PROCESS_SERVICE_H_
#define MPILAUNCH_AGENT_PROCESS_SERVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "agent/exec_call.h"
#include "agent/staging.h"
#include "common/executor.h"
#include "common/init_loop.h"
#include "process.grpc.pb.h"

namespace mpilaunch {

// For role=frontend only. Its server must be shut down before it is destroyed.
class ProcessService final : public v1::Process::CallbackService, private ExecCall::Host {
 public:
  struct Options {
    InitLoop* init = nullptr;  // both outlive the service
    Staging* staging = nullptr;
    std::vector<std::string> job_environment;  // "NAME=value", added to what jobs see
  };
  explicit ProcessService(Options options);

  grpc::ServerUnaryReactor* Stage(grpc::CallbackServerContext* context,
                                  const v1::StageRequest* request,
                                  v1::StageResponse* response) override;
  grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecEvent>* Exec(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* EndJob(grpc::CallbackServerContext* context,
                                   const v1::EndJobRequest* request,
                                   v1::EndJobResponse* response) override;

  // Ends every job known here: SIGTERM to its commands, SIGKILL to what is left after `grace`,
  // directories removed. Blocks for at most `grace` + 3 s; not on a gRPC callback thread or the
  // init loop's. Jobs that are staged afterwards are welcome.
  void EndAllJobs(absl::Duration grace);

 private:
  using Calls = absl::flat_hash_set<std::shared_ptr<ExecCall>>;
  struct Job {
    Calls calls;
    int stages = 0;  // calls of Stage that have not ended
    bool ending = false;
  };

  absl::StatusOr<SpawnRequest> Admit(const std::string& job,
                                     std::shared_ptr<ExecCall> call) override;
  void Release(const std::string& job, const std::shared_ptr<ExecCall>& call) override;

  absl::Status StageNow(const v1::StageRequest& request);
  // Returns how many processes had to be killed.
  absl::StatusOr<int> EndJobNow(const std::string& job, absl::Time deadline);
  Calls MarkEnding(const std::string& job);
  bool AwaitNoCalls(const std::string& job, absl::Duration patience);

  const Options options_;
  const std::vector<std::string> agent_environment_;

  absl::Mutex mutex_;
  // From Stage or Exec to EndJob.
  absl::flat_hash_map<std::string, Job> jobs_ ABSL_GUARDED_BY(mutex_);

  // Threads for what blocks. A job's EndJob goes behind its Stage where one is under way, so that
  // they keep their order, and else never waits for another job's. The last members: their
  // destructors run what is queued.
  Executor stager_;
  Executor ender_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_PROCESS_SERVICE_H_
