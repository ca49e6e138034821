// mpilaunch-rsh HOST COMMAND...: what mpirun runs instead of ssh.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "launcher/rsh/rsh_client.h"
#include "launcher/rsh/rsh_command.h"

namespace {

using mpilaunch::RshExit;

// A closed stdin reads as its end; without this the socket would become fd 0.
void OpenStandardFds() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

RshExit Run(const std::vector<std::string>& arguments, std::string* host) {
  std::string error;
  const auto command = mpilaunch::ParseRshCommand(arguments, &error);
  if (!command) return {mpilaunch::kRshFailed, error};
  *host = command->host;
  const auto environment = mpilaunch::ReadRshEnvironment(
      std::getenv("MPILAUNCH_JOB"), std::getenv("MPILAUNCH_RSH_SOCKET"), &error);
  if (!environment) return {mpilaunch::kRshFailed, error};
  return mpilaunch::RunRshClient({environment->job, command->host, command->command},
                                 environment->socket_path);
}

}  // namespace

int main(int argc, char** argv) {
  OpenStandardFds();
  std::signal(SIGPIPE, SIG_IGN);
  std::string host;
  const RshExit exit = Run({argv + (argc > 0 ? 1 : 0), argv + argc}, &host);
  if (!exit.reason.empty()) {
    const std::string line = mpilaunch::FormatRshFailure(host, exit.reason);
    // Nobody is left to tell when stderr is closed.
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  }
  return exit.code;
}
