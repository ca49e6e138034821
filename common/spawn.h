// Starts one process with posix_spawn. The init loop's part that knows no loop.
#ifndef MPILAUNCH_COMMON_SPAWN_H_
#define MPILAUNCH_COMMON_SPAWN_H_

#include <sys/types.h>

#include "absl/status/statusor.h"
#include "common/init_loop.h"
#include "common/unique_fd.h"

namespace mpilaunch {

// Our ends of the pipes, non-blocking; invalid where the request asks for no pipe.
struct SpawnedProcess {
  pid_t pid = 0;
  UniqueFd stdin_fd;
  UniqueFd stdout_fd;
  UniqueFd stderr_fd;
};

// Looks argv[0] up, makes the pipes and starts the process as InitLoop::Spawn says; uses no
// callback of `request`. Blocks until the exec has succeeded or failed (about 1 ms). The child
// inherits fds 0-2 only.
absl::StatusOr<SpawnedProcess> SpawnProcess(const SpawnRequest& request);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_SPAWN_H_
