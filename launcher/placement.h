// Which worker runs how many ranks. Pure.
#ifndef MPILAUNCH_LAUNCHER_PLACEMENT_H_
#define MPILAUNCH_LAUNCHER_PLACEMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "job.pb.h"

namespace mpilaunch {

struct WorkerSlots {
  std::string name;
  uint32_t total = 0;
  uint32_t used = 0;
};

struct PlacementRequest {
  uint32_t ranks = 0;
  v1::Placement policy = v1::SPREAD;
  bool oversubscribe = false;
  uint32_t min_workers = 0;
};

// Ranks of one worker, in rank order over the vector: the first block holds rank 0.
struct RankBlock {
  std::string worker;
  uint32_t ranks = 0;

  friend bool operator==(const RankBlock&, const RankBlock&) = default;
};

// SPREAD deals ranks evenly over all workers, PACK fills one after the other, both in the order
// given. Workers without a rank are left out. Oversubscribed jobs look at no worker's load.
// RESOURCE_EXHAUSTED: does not fit into what is free now (it may later).
// FAILED_PRECONDITION: larger than all slots; the message gives the slots of each worker and the
// flag.
absl::StatusOr<std::vector<RankBlock>> Place(const std::vector<WorkerSlots>& workers,
                                             const PlacementRequest& request);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_PLACEMENT_H_
