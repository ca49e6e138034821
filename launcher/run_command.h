// From a checked command line to an exit code.
#ifndef MPILAUNCH_LAUNCHER_RUN_COMMAND_H_
#define MPILAUNCH_LAUNCHER_RUN_COMMAND_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "launcher/command_line.h"

namespace mpilaunch {

// `words` as typed, for `mpilaunch jobs`; `started` is when mpilaunch was. Prints errors to stderr.
// Called while the process has one thread: --local forks.
int Execute(const CommandLine& line, const std::vector<std::string>& words, absl::Time started);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_RUN_COMMAND_H_
