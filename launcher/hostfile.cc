#include "launcher/hostfile.h"

#include "absl/strings/str_cat.h"

namespace mpilaunch {

std::string FormatHostfile(const std::vector<RankBlock>& blocks) {
  std::string text;
  for (const RankBlock& block : blocks)
    absl::StrAppend(&text, block.worker, " slots=", block.ranks, "\n");
  return text;
}

}  // namespace mpilaunch
