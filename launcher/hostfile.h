// mpirun's hostfile from a placement. Pure.
#ifndef MPILAUNCH_LAUNCHER_HOSTFILE_H_
#define MPILAUNCH_LAUNCHER_HOSTFILE_H_

#include <string>
#include <vector>

#include "launcher/placement.h"

namespace mpilaunch {

// One line "WORKER slots=RANKS" per block, in the blocks' order. Slots are exactly the ranks placed
// there, so that mapping by slot (a default of ours, see mpi_defaults) reproduces the placement and
// no block counts as oversubscribed: whether it is has been decided by Place(). Names were checked
// when the workers registered.
std::string FormatHostfile(const std::vector<RankBlock>& blocks);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_HOSTFILE_H_
