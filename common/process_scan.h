// Finds and ends processes by what stands in their environment: what left its process group is
// found so.
#ifndef MPILAUNCH_COMMON_PROCESS_SCAN_H_
#define MPILAUNCH_COMMON_PROCESS_SCAN_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace mpilaunch {

// Pids of this process's descendants whose environment at their start held exactly `entry`
// ("NAME=value"). Descendants only: another agent on the same machine may run a job of the same
// number. What was orphaned stays a descendant, because PrepareProcess made us its reaper. Zombies
// have no environment and are not found.
std::vector<pid_t> FindProcessesByEnvironment(const std::string& entry);

struct KillReport {
  int killed = 0;  // processes that got SIGKILL
  int left = 0;    // still alive when `patience` was over
};

// SIGKILLs what FindProcessesByEnvironment finds until nothing is left, also what was forked
// meanwhile. Blocks until they have ended, at most for `patience`
// (200 ms when that is less). Needs Linux 5.3 (pidfd).
KillReport KillProcessesByEnvironment(const std::string& entry, absl::Duration patience);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_PROCESS_SCAN_H_
