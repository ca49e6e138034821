// What ranks that were killed leave in /dev/shm.
#ifndef MPILAUNCH_AGENT_SHARED_MEMORY_H_
#define MPILAUNCH_AGENT_SHARED_MEMORY_H_

#include <string>

#include "absl/strings/string_view.h"

namespace mpilaunch {

// Open MPI's transport within a machine keeps a segment per rank:
// vader_segment.HOST.UID.FFFFJJJJ.RANK in 4.1, sm_segment.HOST.UID.FFFFJJJJ.RANK in 5.0; FFFF is
// the job family in hex. orted and prted remove the segments, unless they were killed as well. True
// when `segment` is a segment's name and belongs to `family`. Pure.
bool IsSegmentOfFamily(absl::string_view segment, unsigned family);

// The job family that Open MPI 5.0 makes of the name space of the run's daemons
// ("prterun-mpife-353"). Pure.
unsigned FamilyOfNamespace(absl::string_view name_space);

// Removes from `shm_folder` (/dev/shm) the segments of those families that have a session folder
// below `session_base`: ompi.HOST.UID/jf.FAMILY (decimal) in 4.1, prted.HOST.PID.UID with a file
// pmix.HOST.tool.NAMESPACE@0 in 5.0. Call it when the job's processes are gone. Best effort: what
// cannot be removed stays.
void RemoveSegments(const std::string& session_base, const std::string& shm_folder = "/dev/shm");

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_SHARED_MEMORY_H_
