// Runs a short program to its end and keeps what it printed.
#ifndef MPILAUNCH_COMMON_RUN_PROGRAM_H_
#define MPILAUNCH_COMMON_RUN_PROGRAM_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/init_loop.h"

namespace mpilaunch {

struct ProgramResult {
  ExitInfo exit;
  std::string stdout_text;  // the first 64 KiB
  std::string stderr_text;
};

// Blocks; not on the init loop's thread. DEADLINE_EXCEEDED: killed after `timeout`. stdin is
// /dev/null.
absl::StatusOr<ProgramResult> RunProgram(InitLoop& init, std::vector<std::string> argv,
                                         std::vector<std::string> environment,
                                         absl::Duration timeout);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_RUN_PROGRAM_H_
