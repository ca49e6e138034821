// What ranks that were killed leave in /dev/shm.
#ifndef MPILAUNCH_AGENT_SHARED_MEMORY_H_
#define MPILAUNCH_AGENT_SHARED_MEMORY_H_

#include <string>

#include "absl/strings/string_view.h"

namespace mpilaunch {

// Open MPI 4.1's transport within a machine (vader) keeps a segment per rank,
// vader_segment.HOST.UID.FFFFJJJJ.RANK, FFFF being the job family in hex. The session folder of the
// same job is ompi.HOST.UID/jf.FAMILY, in decimal. orted removes the segments, unless it was killed
// as well. True when `segment` is a segment's name and belongs to `family`. Pure.
bool IsSegmentOfFamily(absl::string_view segment, unsigned family);

// Removes from `shm_folder` (/dev/shm) the segments of those families that have a session folder
// below `session_base`. Call it when the job's processes are gone. Best effort: what cannot be
// removed stays.
void RemoveSegments(const std::string& session_base, const std::string& shm_folder = "/dev/shm");

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_SHARED_MEMORY_H_
