#include "launcher/run_command.h"

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/exit_codes.h"
#include "common/own_binary.h"
#include "common/status_macros.h"
#include "launcher/frontend_connection.h"
#include "launcher/local_cluster.h"
#include "launcher/local_files.h"
#include "launcher/run_client.h"
#include "launcher/status_commands.h"

namespace mpilaunch {
namespace {

// A local cluster's agents register within a fraction of a second; this bounds what is broken.
constexpr uint32_t kLocalWaitSeconds = 60;
constexpr absl::Duration kConnectInterval = absl::Milliseconds(20);

int Report(const absl::Status& status, int exit_code) {
  std::fprintf(stderr, "mpilaunch: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

int ProgramErrorCode(const absl::Status& status) {
  if (absl::IsNotFound(status)) return kExitNotFound;
  return absl::IsPermissionDenied(status) ? kExitNotExecutable : kExitOwnFailure;
}

uint32_t CoresHere() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? static_cast<uint32_t>(CPU_COUNT(&set)) : 1;
}

// Workers of one machine share its cores anyway: each takes its part of the ranks, or what it has.
uint32_t LocalSlots(const RunCommand& command) {
  const uint32_t part = (command.ranks + command.local_workers - 1) / command.local_workers;
  return part > CoresHere() ? part : 0;
}

absl::StatusOr<std::unique_ptr<LocalCluster>> StartLocalCluster(const RunCommand& command) {
  LocalClusterOptions options;
  options.workers = static_cast<int>(command.local_workers);
  options.slots_per_worker = LocalSlots(command);
  options.binary_dir = OwnBinaryFolder();
  return LocalCluster::Start(options);
}

// --wait is for a cluster that is just starting, so its frontend is waited for, too.
absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectWithin(const std::string& socket,
                                                             absl::Duration wait) {
  const absl::Time deadline = absl::Now() + wait;
  bool told = false;
  for (;;) {
    auto channel = ConnectToFrontend(socket);
    if (!absl::IsNotFound(channel.status()) || absl::Now() >= deadline) return channel;
    if (!told) {
      std::fprintf(stderr, "mpilaunch: waiting for a frontend at %s\n", socket.c_str());
    }
    told = true;
    absl::SleepFor(kConnectInterval);
  }
}

// The usual reason why a program that reads a file fails on its first day here.
void SuggestStaging(const RunCommand& command, const JobFiles& files) {
  for (const std::string& path : NotStaged(command.arguments, files.staged)) {
    std::fprintf(stderr,
                 "mpilaunch: if the ranks were to read %s, which lies here: --stage %s pushes it\n",
                 path.c_str(), path.c_str());
  }
}

int Run(const CommandLine& line, const RunCommand& command, const std::vector<std::string>& words,
        absl::Time started) {
  absl::StatusOr<LocalFile> program = FindLocalProgram(command.program);
  if (!program.ok()) return Report(program.status(), ProgramErrorCode(program.status()));
  absl::StatusOr<std::vector<LocalFile>> staged = FindStagedFiles(command.staged, *program);
  if (!staged.ok()) return Report(staged.status(), kExitUsage);
  const JobFiles files = {*std::move(program), *std::move(staged)};
  absl::StatusOr<v1::JobSpec> spec =
      MakeJobSpec(command, files, absl::StrCat("mpilaunch ", absl::StrJoin(words, " ")));
  if (!spec.ok()) return Report(spec.status(), kExitUsage);

  std::string socket = line.socket;
  absl::StatusOr<std::unique_ptr<LocalCluster>> local = nullptr;
  if (command.local_workers > 0) {
    local = StartLocalCluster(command);
    if (!local.ok()) return Report(local.status(), kExitOwnFailure);
    socket = (*local)->socket_path();
    spec->set_min_workers(command.local_workers);
    spec->set_wait_seconds(std::max(command.wait_seconds, kLocalWaitSeconds));
  }
  const auto channel = ConnectWithin(socket, absl::Seconds(command.wait_seconds));
  if (!channel.ok()) return Report(channel.status(), kExitOwnFailure);
  const int code = RunJob(*channel, files, *spec, started);
  if (code > 0 && code < kExitTimeout && command.working_directory.empty())
    SuggestStaging(command, files);
  return code;
}

}  // namespace

int Execute(const CommandLine& line, const std::vector<std::string>& words, absl::Time started) {
  if (const auto* run = std::get_if<RunCommand>(&line.command))
    return Run(line, *run, words, started);
  const auto channel = ConnectToFrontend(line.socket);
  if (!channel.ok()) return Report(channel.status(), kExitOwnFailure);
  absl::Status status;
  if (const auto* workers = std::get_if<WorkersCommand>(&line.command))
    status = ShowWorkers(*channel, *workers);
  if (const auto* jobs = std::get_if<JobsCommand>(&line.command))
    status = ShowJobs(*channel, *jobs);
  if (const auto* cancel = std::get_if<CancelCommand>(&line.command))
    status = CancelJob(*channel, *cancel);
  return status.ok() ? 0 : Report(status, kExitOwnFailure);
}

}  // namespace mpilaunch
