#include "launcher/own_worker.h"

#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/program_path.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kGrace = absl::Seconds(5);

// Our settings are not the agent's (both have a --listen), but what says how many slots there are.
std::vector<std::string> AgentEnvironment() {
  std::vector<std::string> environment;
  for (std::string& entry : CurrentEnvironment()) {
    if (!absl::StartsWith(entry, "MPILAUNCH_") || absl::StartsWith(entry, "MPILAUNCH_SLOTS=")) {
      environment.push_back(std::move(entry));
    }
  }
  return environment;
}

}  // namespace

absl::Status OwnWorker::Start() {
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(running_, true)) return absl::OkStatus();
  }
  SpawnRequest request;
  request.argv = {options_.agent,       "--frontend", options_.frontend, "--join-bundle",
                  options_.join_bundle, "--name",     options_.name,     "--job-root",
                  options_.job_root,    "--listen",   "127.0.0.1"};
  request.environment = AgentEnvironment();
  request.output_mode = Stdio::kInherit;
  request.on_exit = [this](ExitInfo) {
    {
      absl::MutexLock lock(&mutex_);
      running_ = false;
      pid_ = 0;
    }
    options_.on_end();
  };
  absl::StatusOr<pid_t> pid = options_.init->Spawn(std::move(request));
  absl::MutexLock lock(&mutex_);
  if (!pid.ok()) {
    running_ = false;
    return absl::Status(pid.status().code(), absl::StrCat("--here needs ", options_.agent, ": ",
                                                          pid.status().message()));
  }
  if (running_) pid_ = *pid;  // it may have ended already
  return absl::OkStatus();
}

bool OwnWorker::Running() const {
  absl::MutexLock lock(&mutex_);
  return running_;
}

void OwnWorker::Stop() {
  absl::MutexLock lock(&mutex_);
  if (pid_ != 0) options_.init->Terminate(pid_, kGrace);
  mutex_.Await(absl::Condition(this, &OwnWorker::Ended));
}

}  // namespace mpilaunch
