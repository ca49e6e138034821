#include "agent/loopback_preload.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/logging.h"
#include "common/program_path.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

// The embedded library (agent/preload/embedded.c).
extern "C" const char mpilaunch_loopback_nodelay_begin[];
extern "C" const char mpilaunch_loopback_nodelay_end[];

namespace mpilaunch {
namespace {

constexpr char kFileName[] = "loopback_nodelay.so";

absl::string_view EmbeddedLibrary() {
  return {mpilaunch_loopback_nodelay_begin,
          static_cast<size_t>(mpilaunch_loopback_nodelay_end - mpilaunch_loopback_nodelay_begin)};
}

absl::Status CheckFolder(const std::string& folder) {
  if (!absl::StartsWith(folder, "/") || folder.find_first_of(" \t\n:") != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder, " cannot stand in LD_PRELOAD: needs an absolute path without blanks and colons"));
  }
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", folder));
  }
  struct statvfs file_system;
  if (statvfs(folder.c_str(), &file_system) != 0) return absl::ErrnoToStatus(errno, folder);
  if ((file_system.f_flag & ST_NOEXEC) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(folder, " is mounted noexec"));
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return absl::ErrnoToStatus(errno, "write");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status WriteLibrary(const std::string& path) {
  unlink(path.c_str());  // an earlier agent's, killed half way
  UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500));
  if (!file.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", path));
  return Annotate(WriteAll(file.get(), EmbeddedLibrary()), path);
}

// The value of `name` in `environment`; empty when it is not there.
absl::string_view Value(const std::vector<std::string>& environment, absl::string_view name) {
  for (absl::string_view entry : environment) {
    if (absl::ConsumePrefix(&entry, name) && absl::ConsumePrefix(&entry, "=")) return entry;
  }
  return {};
}

}  // namespace

absl::StatusOr<std::string> InstallLoopbackPreload(const std::string& folder) {
  MPILAUNCH_RETURN_IF_ERROR(CheckFolder(folder));
  std::string path = absl::StrCat(folder, "/", kFileName);
  const std::string half_way = absl::StrCat(path, ".new");
  MPILAUNCH_RETURN_IF_ERROR(WriteLibrary(half_way));
  if (rename(half_way.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", half_way));
  }
  return path;
}

std::vector<std::string> MpiEnvironment(const v1::WorkerFacts& facts,
                                        absl::string_view preload_path,
                                        const std::vector<std::string>& agent) {
  std::vector<std::string> entries;
  // What whoever made the container has set stays.
  auto set_unless_set = [&](absl::string_view name, absl::string_view value) {
    if (Value(agent, name).empty()) entries.push_back(absl::StrCat(name, "=", value));
  };
  auto extend = [&](absl::string_view name, absl::string_view value) {
    const absl::string_view old = Value(agent, name);
    entries.push_back(absl::StrCat(name, "=", old, old.empty() ? "" : ":", value));
  };

  if (!facts.pci_locality()) {
    // Discovery of devices whose place does not matter here, and the libraries (X11, libxml2, ICU)
    // that hwloc's plugins would load into every process before it asks whether they are wanted.
    set_unless_set("HWLOC_COMPONENTS", "-pci,-opencl,-gl,-linuxio");
    set_unless_set(
        "HWLOC_PLUGINS_BLACKLIST",
        "hwloc_pci.so,hwloc_opencl.so,hwloc_gl.so,hwloc_xml_libxml.so,hwloc_cuda.so,hwloc_nvml.so,"
        "hwloc_rsmi.so,hwloc_levelzero.so");
  }
  if (!preload_path.empty()) {
    extend("LD_PRELOAD", preload_path);
    // AddressSanitizer's runtime refuses to start when another library comes before it.
    extend("ASAN_OPTIONS", "verify_asan_link_order=0");
  }
  return entries;
}

absl::StatusOr<std::vector<std::string>> JobEnvironment(const v1::WorkerFacts& facts, bool preload,
                                                        const std::string& folder) {
  const std::vector<std::string> agent = CurrentEnvironment();
  if (!preload || facts.glibc_version().empty()) return MpiEnvironment(facts, "", agent);
  const absl::StatusOr<std::string> path = InstallLoopbackPreload(folder);
  if (!path.ok()) {
    LogWarning(absl::StrCat("MPI_Finalize keeps its 40 ms stall here: ", path.status().message()));
    return MpiEnvironment(facts, "", agent);
  }
  return MpiEnvironment(facts, *path, agent);
}

}  // namespace mpilaunch
