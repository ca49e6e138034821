#include "launcher/shared_memory_warnings.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace mpilaunch {
namespace {

// What the transport within a machine takes for each rank by default: btl_vader_segment_size of
// Open MPI 4, btl_sm_segment_size of Open MPI 5.
uint64_t SegmentMebibytes(const v1::WorkerFacts& facts) {
  return absl::StartsWith(facts.mpi_version(), "4.") ? 4 : 16;
}

// The next power of two, which leaves a little room.
uint64_t Suggestion(uint64_t mebibytes) {
  uint64_t suggestion = 128;
  while (suggestion < mebibytes) suggestion *= 2;
  return suggestion;
}

}  // namespace

std::vector<std::string> SharedMemoryWarnings(const std::vector<RankBlock>& blocks,
                                              const std::vector<v1::WorkerFacts>& facts) {
  std::vector<std::string> warnings;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const uint64_t each = SegmentMebibytes(facts[i]);
    const uint64_t wanted = each * blocks[i].ranks;
    // A rank that is alone uses no shared memory. Size 0: unknown.
    if (blocks[i].ranks < 2 || facts[i].shm_bytes() == 0) continue;
    if (wanted <= facts[i].shm_bytes() >> 20) continue;
    warnings.push_back(absl::StrCat(
        blocks[i].worker, " has ", facts[i].shm_bytes() >> 20, " MiB of /dev/shm, and its ",
        blocks[i].ranks, " ranks may want ", wanted, " MiB (", each,
        " MiB each): start that container with --shm-size=", Suggestion(wanted),
        "m if they die of SIGBUS (Kubernetes: an emptyDir of medium Memory at /dev/shm)"));
  }
  return warnings;
}

}  // namespace mpilaunch
