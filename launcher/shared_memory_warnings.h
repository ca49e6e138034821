// Whether the workers' /dev/shm is large enough for a job, in sentences for people. Pure.
#ifndef MPILAUNCH_LAUNCHER_SHARED_MEMORY_WARNINGS_H_
#define MPILAUNCH_LAUNCHER_SHARED_MEMORY_WARNINGS_H_

#include <string>
#include <vector>

#include "launcher/placement.h"
#include "membership.pb.h"

namespace mpilaunch {

// One for each block whose ranks may want more than its worker has; `facts` in the blocks' order.
// Segments are sparse and Open MPI checks only for the next one, so that most programs run all the
// same; those that exchange much at once are killed by SIGBUS.
std::vector<std::string> SharedMemoryWarnings(const std::vector<RankBlock>& blocks,
                                              const std::vector<v1::WorkerFacts>& facts);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_SHARED_MEMORY_WARNINGS_H_
