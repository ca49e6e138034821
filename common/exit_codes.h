// What our programs exit with when it is not a job's own code: as timeout(1), docker run and the
// shell. the shell.
#ifndef MPILAUNCH_COMMON_EXIT_CODES_H_
#define MPILAUNCH_COMMON_EXIT_CODES_H_

namespace mpilaunch {

inline constexpr int kExitUsage = 2;
inline constexpr int kExitTimeout = 124;
inline constexpr int kExitOwnFailure =
    125;  // the frontend, a worker or the cluster failed, not the program
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;  // a job ended by a signal exits with 128 + its number

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_EXIT_CODES_H_
