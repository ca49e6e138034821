#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "common/init_loop.h"
#include "launcher/command_line.h"
#include "launcher/run_command.h"

int main(int argc, char** argv) {
  using namespace mpilaunch;
  const absl::Time started = absl::Now();
  PrepareProcess();
  AllowJobControl();
  const CommandLine line = ParseCommandLine(std::vector<std::string>(argv + 1, argv + argc));
  if (line.exit_code >= 0) return line.exit_code;
  return Execute(line, std::vector<std::string>(argv + 1, argv + argc), started);
}
