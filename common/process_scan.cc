#include "common/process_scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "common/unique_fd.h"

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgot to say extern "C" itself
}

namespace mpilaunch {
namespace {

// Bounds the descriptors that one round of killing holds open.
constexpr size_t kMaxPerRound = 256;

// What a killed process may take to be gone, however little patience there is.
constexpr absl::Duration kDeathTime = absl::Milliseconds(200);

std::optional<std::string> ReadProcFile(pid_t pid, const char* name) {
  UniqueFd fd(open(absl::StrCat("/proc/", pid, "/", name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return std::nullopt;
  std::string text;
  char buffer[16 * 1024];
  for (;;) {
    const ssize_t count = read(fd.get(), buffer, sizeof(buffer));
    if (count < 0) return std::nullopt;
    if (count == 0) return text;
    text.append(buffer, count);
  }
}

bool HasEntry(pid_t pid, absl::string_view entry) {
  const std::optional<std::string> environment = ReadProcFile(pid, "environ");
  if (!environment.has_value()) return false;
  for (absl::string_view candidate : absl::StrSplit(*environment, '\0')) {
    if (candidate == entry) return true;
  }
  return false;
}

// 0 when there is none: the process has ended, or its parent is outside of our namespace.
pid_t ParentOf(pid_t pid) {
  const std::optional<std::string> stat = ReadProcFile(pid, "stat");
  if (!stat.has_value()) return 0;
  // "PID (NAME) STATE PPID ...", and the name may hold anything, also ") ".
  const size_t name_end = stat->rfind(") ");
  if (name_end == std::string::npos) return 0;
  const std::vector<std::string> fields =
      absl::StrSplit(stat->substr(name_end + 2), absl::MaxSplits(' ', 2));
  pid_t parent = 0;
  return fields.size() > 1 && absl::SimpleAtoi(fields[1], &parent) ? parent : 0;
}

bool IsDescendant(pid_t pid) {
  const pid_t self = getpid();
  // An ancestor that ends while we climb hands its children to us: then the climb starts again.
  constexpr int kMaxAttempts = 8;
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    pid_t ancestor = ParentOf(pid);
    while (ancestor > 1 && ancestor != self) ancestor = ParentOf(ancestor);
    if (ancestor == self) return true;
    if (ancestor == 1 || ParentOf(pid) == 0) return false;
  }
  return false;
}

struct Handle {
  pid_t pid = 0;
  UniqueFd pidfd;
};

std::vector<Handle> OpenProcesses(const std::string& entry) {
  std::vector<Handle> handles;
  for (pid_t pid : FindProcessesByEnvironment(entry)) {
    if (handles.size() == kMaxPerRound) break;
    UniqueFd pidfd(pidfd_open(pid, 0));
    // Looked at again: the pid may have been given to another process before the pidfd pinned it.
    if (pidfd.valid() && HasEntry(pid, entry))
      handles.push_back({.pid = pid, .pidfd = std::move(pidfd)});
  }
  return handles;
}

void AwaitExits(const std::vector<Handle>& handles, absl::Time deadline) {
  for (const Handle& handle : handles) {
    pollfd waiting = {.fd = handle.pidfd.get(), .events = POLLIN, .revents = 0};
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    poll(&waiting, 1, static_cast<int>(std::clamp<int64_t>(left_ms, 0, 60'000)));
  }
}

}  // namespace

std::vector<pid_t> FindProcessesByEnvironment(const std::string& entry) {
  std::vector<pid_t> found;
  std::unique_ptr<DIR, int (*)(DIR*)> proc(opendir("/proc"), closedir);
  if (proc == nullptr) return found;
  while (const dirent* item = readdir(proc.get())) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(item->d_name, &pid)) continue;
    if (HasEntry(pid, entry) && IsDescendant(pid)) found.push_back(pid);
  }
  return found;
}

KillReport KillProcessesByEnvironment(const std::string& entry, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + std::max(patience, kDeathTime);
  KillReport report;
  for (;;) {
    const std::vector<Handle> handles = OpenProcesses(entry);
    if (handles.empty()) return report;
    if (absl::Now() >= deadline) {
      report.left = static_cast<int>(handles.size());
      return report;
    }
    for (const Handle& handle : handles) {
      if (pidfd_send_signal(handle.pidfd.get(), SIGKILL, nullptr, 0) == 0) ++report.killed;
    }
    AwaitExits(handles, deadline);
  }
}

}  // namespace mpilaunch
