#include "agent/shared_memory.h"

#include <cstdint>
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

// ORTE's: a folder per family, in the user's.
void AddFamilies(const std::filesystem::path& user, std::set<unsigned>& families) {
  std::error_code ignored;
  for (const auto& job : std::filesystem::directory_iterator(user, ignored)) {
    const std::string name = job.path().filename();
    unsigned family = 0;
    if (absl::SimpleAtoi(absl::StripPrefix(name, "jf."), &family)) families.insert(family);
  }
}

// PRRTE's: a contact file that is named after the name space.
void AddNamespaces(const std::filesystem::path& daemon, std::set<unsigned>& families) {
  constexpr absl::string_view kTool = ".tool.";
  constexpr absl::string_view kDaemons = "@0";
  std::error_code ignored;
  for (const auto& file : std::filesystem::directory_iterator(daemon, ignored)) {
    const std::string name = file.path().filename();
    const size_t tool = name.find(kTool.data());
    if (tool == std::string::npos || !absl::EndsWith(name, kDaemons)) continue;
    absl::string_view name_space = absl::string_view(name).substr(tool + kTool.size());
    name_space.remove_suffix(kDaemons.size());
    families.insert(FamilyOfNamespace(name_space));
  }
}

std::set<unsigned> Families(const std::string& session_base) {
  std::set<unsigned> families;
  std::error_code ignored;
  for (const auto& folder : std::filesystem::directory_iterator(session_base, ignored)) {
    const std::string name = folder.path().filename();
    if (absl::StartsWith(name, "ompi.")) AddFamilies(folder, families);
    if (absl::StartsWith(name, "prted.")) AddNamespaces(folder, families);
  }
  return families;
}

}  // namespace

bool IsSegmentOfFamily(absl::string_view segment, unsigned family) {
  if (!absl::ConsumePrefix(&segment, "vader_segment.") &&
      !absl::ConsumePrefix(&segment, "sm_segment.")) {
    return false;
  }
  // HOST may hold dots: the three last parts count.
  const std::vector<absl::string_view> parts = absl::StrSplit(segment, '.');
  if (parts.size() < 4) return false;
  const absl::string_view job = parts[parts.size() - 2];
  return job.size() > 4 && job.substr(0, job.size() - 4) == absl::StrFormat("%x", family);
}

// Jenkins' one-at-a-time hash, folded to 16 bits.
unsigned FamilyOfNamespace(absl::string_view name_space) {
  uint32_t hash = 0;
  for (const char c : name_space) {
    hash += static_cast<unsigned char>(c);
    hash += hash << 10;
    hash ^= hash >> 6;
  }
  hash += hash << 3;
  hash ^= hash >> 11;
  hash += hash << 15;
  return (hash >> 16) ^ (hash & 0xffff);
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
