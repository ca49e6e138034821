// What this worker adds to the environment of Open MPI's daemons and ranks, and the small library
// that cures their stall in MPI_Finalize (docs/decisions/0002-finalize-stall.md).
#ifndef MPILAUNCH_AGENT_LOOPBACK_PRELOAD_H_
#define MPILAUNCH_AGENT_LOOPBACK_PRELOAD_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "membership.pb.h"

namespace mpilaunch {

// Writes the library into `folder` (made 0700 when missing): beside, then renamed, mode 0500, so
// that processes that have it loaded keep theirs. Returns its path, which must be absolute and hold
// no blank or colon (they separate entries of LD_PRELOAD): INVALID_ARGUMENT. FAILED_PRECONDITION:
// `folder` is mounted noexec. Others as the system says.
absl::StatusOr<std::string> InstallLoopbackPreload(const std::string& folder);

// The entries ("NAME=value") for jobs on a worker with these facts. `preload_path` empty: no
// library. Entries that extend what the agent was given (LD_PRELOAD, ASAN_OPTIONS) are made from
// `agent`, the agent's own environment, and replace its entries of the same name. Pure.
std::vector<std::string> MpiEnvironment(const v1::WorkerFacts& facts,
                                        absl::string_view preload_path,
                                        const std::vector<std::string>& agent);

// Both together, from this process's environment. `preload` false, or a libc other than glibc:
// nothing is installed. A folder that cannot hold the library costs its cure and a warning, not the
// worker.
absl::StatusOr<std::vector<std::string>> JobEnvironment(const v1::WorkerFacts& facts, bool preload,
                                                        const std::string& folder);

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_LOOPBACK_PRELOAD_H_
