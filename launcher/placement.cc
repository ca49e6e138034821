#include "launcher/placement.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace mpilaunch {
namespace {

constexpr size_t kWorkersNamedInErrors = 16;

std::string Describe(const std::vector<WorkerSlots>& workers) {
  std::vector<std::string> parts;
  for (const WorkerSlots& worker : workers) {
    if (parts.size() == kWorkersNamedInErrors) {
      parts.push_back(absl::StrCat("and ", workers.size() - parts.size(), " more"));
      break;
    }
    parts.push_back(absl::StrCat(worker.name, " has ", worker.total));
  }
  return absl::StrJoin(parts, ", ");
}

// One rank each in turn, to those with room, until all are dealt. `room` is large enough in sum.
std::vector<uint32_t> DealEvenly(std::vector<uint64_t> room, uint32_t ranks) {
  std::vector<uint32_t> dealt(room.size(), 0);
  while (ranks > 0) {
    for (size_t i = 0; i < room.size() && ranks > 0; ++i) {
      if (dealt[i] == room[i]) continue;
      ++dealt[i];
      --ranks;
    }
  }
  return dealt;
}

std::vector<uint32_t> FillInTurn(const std::vector<uint64_t>& room, uint32_t ranks) {
  std::vector<uint32_t> dealt;
  for (uint64_t limit : room) {
    dealt.push_back(static_cast<uint32_t>(std::min<uint64_t>(limit, ranks)));
    ranks -= dealt.back();
  }
  if (ranks > 0) {  // oversubscribed: what is left over goes evenly on top
    const std::vector<uint64_t> unlimited(room.size(), std::numeric_limits<uint32_t>::max());
    const std::vector<uint32_t> excess = DealEvenly(unlimited, ranks);
    for (size_t i = 0; i < dealt.size(); ++i) dealt[i] += excess[i];
  }
  return dealt;
}

}  // namespace

absl::StatusOr<std::vector<RankBlock>> Place(const std::vector<WorkerSlots>& workers,
                                             const PlacementRequest& request) {
  uint64_t total = 0;
  uint64_t free = 0;
  std::vector<uint64_t> room;
  for (const WorkerSlots& worker : workers) {
    total += worker.total;
    room.push_back(worker.total > worker.used ? worker.total - worker.used : 0);
    free += room.back();
  }
  if (workers.empty())
    return absl::FailedPreconditionError(
        "no worker is registered: start some, wait for those that are coming with --wait 30, or "
        "run in the frontend itself with --here");
  if (workers.size() < request.min_workers) {
    return absl::FailedPreconditionError(absl::StrCat(workers.size(), " of ", request.min_workers,
                                                      " workers are registered (",
                                                      Describe(workers), ")"));
  }
  if (request.oversubscribe) {
    for (size_t i = 0; i < room.size(); ++i) {
      room[i] =
          request.policy == v1::PACK ? workers[i].total : std::numeric_limits<uint32_t>::max();
    }
  } else if (request.ranks > total) {
    return absl::FailedPreconditionError(absl::StrCat(
        request.ranks, " ranks asked for, ", total, " slots are registered (", Describe(workers),
        "): add workers, or allow more ranks than slots with --oversubscribe"));
  } else if (request.ranks > free) {
    return absl::ResourceExhaustedError(
        absl::StrCat(request.ranks, " slots needed, ", free, " of ", total, " are free"));
  }

  const std::vector<uint32_t> dealt = request.policy == v1::PACK ? FillInTurn(room, request.ranks)
                                                                 : DealEvenly(room, request.ranks);
  std::vector<RankBlock> blocks;
  for (size_t i = 0; i < workers.size(); ++i) {
    if (dealt[i] > 0) blocks.push_back({workers[i].name, dealt[i]});
  }
  return blocks;
}

}  // namespace mpilaunch
