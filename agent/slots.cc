#include "agent/slots.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace mpilaunch {
namespace {

enum class Version { kV1, kV2 };

// CPU time per wall time, in microseconds.
struct Quota {
  uint64_t micros = 0;
  uint64_t period_micros = 1;
  Version version = Version::kV2;

  double cores() const { return static_cast<double>(micros) / static_cast<double>(period_micros); }
  uint64_t ceiling() const { return micros / period_micros + (micros % period_micros != 0); }
};

// A folder of a cgroup hierarchy, seen at `mount_point`; `root` is what of the hierarchy lies
// there.
struct CgroupMount {
  Version version;
  std::string root;
  std::string mount_point;
};

bool HasCpu(absl::string_view comma_list) {
  const std::vector<absl::string_view> names = absl::StrSplit(comma_list, ',');
  return std::find(names.begin(), names.end(), "cpu") != names.end();
}

// mountinfo writes blanks in paths as \040.
std::string Unescape(absl::string_view text) {
  std::string plain;
  return absl::CUnescape(text, &plain) ? plain : std::string(text);
}

// "ID PARENT DEVICE ROOT MOUNT_POINT OPTIONS [TAG...] - TYPE SOURCE SUPER_OPTIONS"
std::vector<CgroupMount> CpuMounts(absl::string_view mountinfo) {
  std::vector<CgroupMount> mounts;
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> halves =
        absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    const std::vector<absl::string_view> mount = absl::StrSplit(halves.first, ' ');
    const std::vector<absl::string_view> system = absl::StrSplit(halves.second, ' ');
    if (mount.size() < 5 || system.size() < 3) continue;
    if (system[0] == "cgroup2") {
      mounts.push_back({Version::kV2, Unescape(mount[3]), Unescape(mount[4])});
    } else if (system[0] == "cgroup" && HasCpu(system[2])) {
      mounts.push_back({Version::kV1, Unescape(mount[3]), Unescape(mount[4])});
    }
  }
  return mounts;
}

// Our path in the hierarchy that governs CPU time: "0::/a/b" is v2, "4:cpu,cpuacct:/a/b" is v1.
std::optional<std::string> OwnPath(absl::string_view own_cgroup, Version version) {
  for (absl::string_view line : absl::StrSplit(own_cgroup, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const bool matches =
        version == Version::kV1 ? HasCpu(fields[1]) : fields[0] == "0" && fields[1].empty();
    if (matches) return std::string(fields[2]);
  }
  return std::nullopt;
}

// `path` relative to `root`, "" or "/a/b". Nothing when it lies elsewhere.
std::optional<std::string> Below(absl::string_view root, absl::string_view path) {
  root = absl::StripSuffix(root, "/");
  path = absl::StripSuffix(path, "/");
  if (!absl::ConsumePrefix(&path, root)) return std::nullopt;
  if (!path.empty() && path[0] != '/') return std::nullopt;
  if (absl::StrContains(absl::StrCat(path, "/"), "/../")) return std::nullopt;
  return std::string(path);
}

// Where our cgroup and its ancestors lie in the file system, innermost first. A container that sees
// only its own sub tree, under a path that does not tell where that is, has it at the mount point
// itself.
std::vector<std::string> Folders(const std::vector<CgroupMount>& mounts, Version version,
                                 const std::string& own_path) {
  std::vector<std::string> folders;
  for (const CgroupMount& mount : mounts) {
    if (mount.version != version) continue;
    std::optional<std::string> below = Below(mount.root, own_path);
    if (!below.has_value()) continue;
    for (; !below->empty(); below->resize(below->rfind('/'))) {
      folders.push_back(mount.mount_point + *below);
    }
    folders.push_back(mount.mount_point);
  }
  if (!folders.empty()) return folders;
  for (const CgroupMount& mount : mounts) {
    if (mount.version == version) folders.push_back(mount.mount_point);
  }
  return folders;
}

class QuotaSearch {
 public:
  explicit QuotaSearch(const SlotInputs& inputs) : inputs_(inputs) {}

  void Run() {
    const std::vector<CgroupMount> mounts = CpuMounts(inputs_.mountinfo);
    for (const Version version : {Version::kV2, Version::kV1}) {
      const std::optional<std::string> own_path = OwnPath(inputs_.own_cgroup, version);
      if (!own_path.has_value()) continue;
      for (const std::string& folder : Folders(mounts, version, *own_path)) {
        version == Version::kV2 ? ReadV2(folder) : ReadV1(folder);
      }
    }
  }

  const std::optional<Quota>& tightest() const { return tightest_; }
  const std::string& not_understood() const { return not_understood_; }

 private:
  // "max 100000" or "150000 100000"; the root of the hierarchy has no such file.
  void ReadV2(const std::string& folder) {
    const std::string path = folder + "/cpu.max";
    const std::optional<std::string> text = inputs_.read_file(path);
    if (!text.has_value()) return;
    const std::vector<absl::string_view> fields =
        absl::StrSplit(absl::StripAsciiWhitespace(*text), ' ');
    if (fields[0] == "max") return;
    if (fields.size() != 2) return Misunderstood(path);
    Consider(path, fields[0], fields[1], Version::kV2);
  }

  // -1 is "no quota".
  void ReadV1(const std::string& folder) {
    const std::string path = folder + "/cpu.cfs_quota_us";
    const std::optional<std::string> quota = inputs_.read_file(path);
    const std::optional<std::string> period = inputs_.read_file(folder + "/cpu.cfs_period_us");
    if (!quota.has_value()) return;
    if (absl::StripAsciiWhitespace(*quota) == "-1") return;
    Consider(path, *quota, period.value_or(""), Version::kV1);
  }

  void Consider(const std::string& path, absl::string_view micros, absl::string_view period_micros,
                Version version) {
    Quota quota{.version = version};
    if (!absl::SimpleAtoi(micros, &quota.micros) || quota.micros == 0 ||
        !absl::SimpleAtoi(period_micros, &quota.period_micros) || quota.period_micros == 0) {
      return Misunderstood(path);
    }
    if (!tightest_.has_value() || quota.cores() < tightest_->cores()) tightest_ = quota;
  }

  void Misunderstood(const std::string& path) {
    if (not_understood_.empty()) not_understood_ = path;
  }

  const SlotInputs& inputs_;
  std::optional<Quota> tightest_;
  std::string not_understood_;  // the first such file
};

uint32_t Clamp(uint64_t count) {
  return static_cast<uint32_t>(std::min<uint64_t>(count, std::numeric_limits<uint32_t>::max()));
}

Slots ByAffinity(uint32_t cpus) {
  if (cpus == 0) return {1, "1, number of cores unknown"};
  return {cpus, absl::StrCat(cpus, cpus == 1 ? " core" : " cores", " by affinity")};
}

std::string Describe(const Quota& quota) {
  const double rounded = std::round(quota.cores() * 1000) / 1000;
  return absl::StrCat("ceil(cpu quota ", rounded > 0 ? rounded : quota.cores(), "), cgroup ",
                      quota.version == Version::kV2 ? "v2" : "v1");
}

}  // namespace

Slots CountSlots(const SlotInputs& inputs) {
  if (inputs.set_by_user != 0) return {inputs.set_by_user, "set by --slots"};
  QuotaSearch search(inputs);
  search.Run();
  const std::optional<Quota>& quota = search.tightest();
  Slots slots = ByAffinity(inputs.affinity_cpus);
  if (quota.has_value() && (inputs.affinity_cpus == 0 || quota->cores() < inputs.affinity_cpus)) {
    slots = {Clamp(quota->ceiling()), Describe(*quota)};
  }
  if (!search.not_understood().empty()) {
    absl::StrAppend(&slots.reason, " (", search.not_understood(), " not understood)");
  }
  return slots;
}

}  // namespace mpilaunch
