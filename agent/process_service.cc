#include "agent/process_service.h"

#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "agent/job_environment.h"
#include "common/grpc_status.h"
#include "common/logging.h"
#include "common/process_scan.h"
#include "common/program_path.h"
#include "common/status_macros.h"
#include "common/tls.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kKillPatience = absl::Seconds(2);

absl::Duration TimeLeft(absl::Time deadline) {
  return std::max(deadline - absl::Now(), absl::ZeroDuration());
}

absl::Status RequireFrontend(const grpc::CallbackServerContext& context) {
  return RequireRole(*context.auth_context(), Role::kFrontend);
}

// An Exec that is refused before its first request.
class RefusedExec final : public grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecEvent> {
 public:
  explicit RefusedExec(const absl::Status& status) { Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

ProcessService::ProcessService(Options options)
    : options_(std::move(options)), agent_environment_(CurrentEnvironment()) {}

grpc::ServerUnaryReactor* ProcessService::Stage(grpc::CallbackServerContext* context,
                                                const v1::StageRequest* request,
                                                v1::StageResponse* /*response*/) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = RequireFrontend(*context);
  if (status.ok()) status = ValidateJobId(request->job());
  if (!status.ok()) {
    reactor->Finish(ToGrpc(status));
    return reactor;
  }
  absl::MutexLock lock(&mutex_);
  ++jobs_[request->job()].stages;
  stager_.Post([this, reactor, request] { reactor->Finish(ToGrpc(StageNow(*request))); });
  return reactor;
}

absl::Status ProcessService::StageNow(const v1::StageRequest& request) {
  bool ending = false;
  {
    absl::MutexLock lock(&mutex_);
    ending = jobs_[request.job()].ending;
  }
  const absl::Status status = ending ? absl::FailedPreconditionError("the job is being ended")
                                     : options_.staging->Stage(request);
  absl::MutexLock lock(&mutex_);
  // EndAllJobs may have forgotten the job meanwhile.
  if (auto it = jobs_.find(request.job()); it != jobs_.end() && it->second.stages > 0)
    --it->second.stages;
  return status;
}

grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecEvent>* ProcessService::Exec(
    grpc::CallbackServerContext* context) {
  if (absl::Status status = RequireFrontend(*context); !status.ok()) return new RefusedExec(status);
  ExecCall::Host& host = *this;
  auto call = std::make_shared<ExecCall>(*options_.init, host);
  call->Begin();
  return call.get();
}

absl::StatusOr<SpawnRequest> ProcessService::Admit(const std::string& job,
                                                   std::shared_ptr<ExecCall> call) {
  MPILAUNCH_RETURN_IF_ERROR(ValidateJobId(job));
  SpawnRequest request;
  request.working_directory = options_.staging->WorkDirectory(job);
  request.environment = JobEnvironment(agent_environment_, options_.job_environment, job);
  // Under the lock, so that EndJob either finds the call or has marked or removed what is looked at
  // here.
  absl::MutexLock lock(&mutex_);
  struct stat info;
  if (stat(request.working_directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat("job ", job, " is not staged here"));
  }
  Job& entry = jobs_[job];
  if (entry.ending) {
    return absl::FailedPreconditionError(absl::StrCat("job ", job, " is being ended"));
  }
  entry.calls.insert(std::move(call));
  return request;
}

void ProcessService::Release(const std::string& job, const std::shared_ptr<ExecCall>& call) {
  absl::MutexLock lock(&mutex_);
  auto it = jobs_.find(job);
  if (it != jobs_.end()) it->second.calls.erase(call);
}

grpc::ServerUnaryReactor* ProcessService::EndJob(grpc::CallbackServerContext* context,
                                                 const v1::EndJobRequest* request,
                                                 v1::EndJobResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = RequireFrontend(*context);
  if (status.ok()) status = ValidateJobId(request->job());
  if (!status.ok()) {
    reactor->Finish(ToGrpc(status));
    return reactor;
  }
  absl::MutexLock lock(&mutex_);
  Job& job = jobs_[request->job()];
  job.ending = true;  // what is still to be staged for it need not be
  Executor& executor = job.stages > 0 ? stager_ : ender_;
  executor.Post([this, reactor, request, response] {
    const absl::StatusOr<int> killed = EndJobNow(request->job(), absl::Now() + kKillPatience);
    if (killed.ok()) response->set_killed(*killed);
    reactor->Finish(ToGrpc(killed.status()));
  });
  return reactor;
}

ProcessService::Calls ProcessService::MarkEnding(const std::string& job) {
  absl::MutexLock lock(&mutex_);
  Job& entry = jobs_[job];
  entry.ending = true;
  return entry.calls;
}

bool ProcessService::AwaitNoCalls(const std::string& job, absl::Duration patience) {
  absl::MutexLock lock(&mutex_);
  auto none = [&] {
    mutex_.AssertReaderHeld();
    auto it = jobs_.find(job);
    return it == jobs_.end() || it->second.calls.empty();
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&none), patience);
}

absl::StatusOr<int> ProcessService::EndJobNow(const std::string& job, absl::Time deadline) {
  const Calls calls = MarkEnding(job);
  // First what carries the mark, so that it is counted; then the groups, where something may have
  // wiped it off.
  const KillReport report = KillProcessesByEnvironment(JobMark(job), TimeLeft(deadline));
  for (const std::shared_ptr<ExecCall>& call : calls) call->Signal(SIGKILL);
  AwaitNoCalls(job, TimeLeft(deadline));
  // A command that was about to start during the first search has been killed as its call; what it
  // forked was not.
  const KillReport late = KillProcessesByEnvironment(JobMark(job), TimeLeft(deadline));
  const absl::Status removed = options_.staging->EndJob(job);
  {
    absl::MutexLock lock(&mutex_);
    jobs_.erase(job);
  }
  const int killed = report.killed + late.killed;
  if (killed > 0) LogInfo(absl::StrCat("job=", job, " ended, killed=", killed));
  if (late.left > 0) {
    return absl::DeadlineExceededError(
        absl::StrCat(late.left, " processes of job ", job, " do not die"));
  }
  MPILAUNCH_RETURN_IF_ERROR(removed);
  return killed;
}

void ProcessService::EndAllJobs(absl::Duration grace) {
  absl::flat_hash_map<std::string, Calls> jobs;
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [job, entry] : jobs_) {
      entry.ending = true;
      jobs[job] = entry.calls;
    }
  }
  for (const auto& [job, calls] : jobs) {
    for (const std::shared_ptr<ExecCall>& call : calls) call->Signal(SIGTERM);
  }
  const absl::Time term_deadline = absl::Now() + grace;
  for (const auto& [job, calls] : jobs) AwaitNoCalls(job, TimeLeft(term_deadline));
  const absl::Time kill_deadline = absl::Now() + kKillPatience;
  for (const auto& [job, calls] : jobs) {
    const absl::StatusOr<int> killed = EndJobNow(job, kill_deadline);
    if (!killed.ok()) LogWarning(killed.status().message());
  }
}

}  // namespace mpilaunch
