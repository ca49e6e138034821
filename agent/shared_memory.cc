#include "agent/shared_memory.h"

#include <filesystem>
#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace mpilaunch {
namespace {

// Of the folders session_base/ompi.*/jf.FAMILY.
std::set<unsigned> Families(const std::string& session_base) {
  std::set<unsigned> families;
  std::error_code ignored;
  for (const auto& user : std::filesystem::directory_iterator(session_base, ignored)) {
    if (!absl::StartsWith(user.path().filename().string(), "ompi.")) continue;
    for (const auto& job : std::filesystem::directory_iterator(user, ignored)) {
      const std::string name = job.path().filename();
      unsigned family = 0;
      if (absl::SimpleAtoi(absl::StripPrefix(name, "jf."), &family)) families.insert(family);
    }
  }
  return families;
}

}  // namespace

bool IsSegmentOfFamily(absl::string_view segment, unsigned family) {
  if (!absl::ConsumePrefix(&segment, "vader_segment.")) return false;
  // HOST may hold dots: the three last parts count.
  const std::vector<absl::string_view> parts = absl::StrSplit(segment, '.');
  if (parts.size() < 4) return false;
  const absl::string_view job = parts[parts.size() - 2];
  return job.size() > 4 && job.substr(0, job.size() - 4) == absl::StrFormat("%x", family);
}

void RemoveSegments(const std::string& session_base, const std::string& shm_folder) {
  const std::set<unsigned> families = Families(session_base);
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(shm_folder, ignored)) {
    for (unsigned family : families) {
      if (!IsSegmentOfFamily(entry.path().filename().string(), family)) continue;
      std::filesystem::remove(entry.path(), ignored);
      break;
    }
  }
}

}  // namespace mpilaunch
