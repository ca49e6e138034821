#include "common/run_program.h"

#include <csignal>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

constexpr size_t kMaxKept = 64 * 1024;

// Shared with the loop's callbacks, which may outlive a caller that gave up.
struct Collected {
  ProgramResult result;
  absl::Notification exited;
};

bool Keep(std::string& text, const std::string& piece) {
  text.append(piece, 0, kMaxKept - text.size());
  return true;
}

}  // namespace

absl::StatusOr<ProgramResult> RunProgram(InitLoop& init, std::vector<std::string> argv,
                                         std::vector<std::string> environment,
                                         absl::Duration timeout) {
  auto collected = std::make_shared<Collected>();
  const std::string name = argv.empty() ? "" : argv[0];
  SpawnRequest request;
  request.argv = std::move(argv);
  request.environment = std::move(environment);
  request.on_stdout = [collected](std::string piece) {
    return Keep(collected->result.stdout_text, piece);
  };
  request.on_stderr = [collected](std::string piece) {
    return Keep(collected->result.stderr_text, piece);
  };
  request.on_exit = [collected](ExitInfo exit) {
    collected->result.exit = exit;
    collected->exited.Notify();
  };
  MPILAUNCH_ASSIGN_OR_RETURN(const pid_t pid, init.Spawn(std::move(request)));
  if (!collected->exited.WaitForNotificationWithTimeout(timeout)) {
    init.Signal(pid, SIGKILL);
    return absl::DeadlineExceededError(
        absl::StrCat(name, " did not end within ", absl::FormatDuration(timeout)));
  }
  return std::move(collected->result);
}

}  // namespace mpilaunch
