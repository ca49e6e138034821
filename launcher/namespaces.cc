#include "launcher/namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

// ENOSPC is what the kernel says above user.max_*_namespaces; Abseil has it as RESOURCE_EXHAUSTED.
absl::Status ErrnoStatus(absl::string_view what) { return absl::ErrnoToStatus(errno, what); }

absl::Status WriteFile(const char* path, absl::string_view text) {
  UniqueFd file(open(path, O_WRONLY | O_CLOEXEC));
  if (!file.valid() || write(file.get(), text.data(), text.size()) < 0) {
    return ErrnoStatus(absl::StrCat("writing ", path));
  }
  return absl::OkStatus();
}

// A kernel setting's value; empty where this kernel has no such setting.
std::string ReadSetting(absl::string_view name) {
  std::ifstream file(absl::StrCat("/proc/sys/", name));
  std::string value;
  file >> value;
  return value;
}

absl::Status MountTmpfs(const std::string& folder) {
  if (mount("tmpfs", folder.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") == 0 ||
      errno == ENOENT) {
    return absl::OkStatus();
  }
  return ErrnoStatus(absl::StrCat("mounting a private ", folder));
}

absl::Status Bind(int source_fd, const std::string& target) {
  if (mkdir(target.c_str(), 0700) != 0) return ErrnoStatus(absl::StrCat("mkdir ", target));
  // The folder may be covered by now: it can only be named through the descriptor.
  const std::string source = absl::StrCat("/proc/self/fd/", source_fd);
  if (mount(source.c_str(), target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) {
    return ErrnoStatus(absl::StrCat("binding ", target));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<pid_t> ForkIntoNamespaces(int namespaces) {
  // unshare() and fork() would do it once per process only: the second child could not have a
  // process table of its own. Without a stack clone behaves as fork.
  const auto pid = static_cast<pid_t>(
      syscall(SYS_clone, static_cast<unsigned long>(namespaces) | SIGCHLD, 0, 0, 0, 0));
  if (pid >= 0) return pid;
  // EINVAL: this kernel was built without one of them.
  if (errno == EINVAL) errno = EPERM;
  return ErrnoStatus("new namespaces");
}

absl::Status MapOwnIds(uid_t uid, gid_t gid) {
  MPILAUNCH_RETURN_IF_ERROR(WriteFile("/proc/self/setgroups", "deny"));
  MPILAUNCH_RETURN_IF_ERROR(WriteFile("/proc/self/uid_map", absl::StrCat(uid, " ", uid, " 1")));
  return WriteFile("/proc/self/gid_map", absl::StrCat(gid, " ", gid, " 1"));
}

absl::Status MakeMountsPrivate() {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return ErrnoStatus("making mounts private");
  }
  return absl::OkStatus();
}

absl::Status MountPrivateFolders(const std::vector<std::string>& folders,
                                 const std::vector<ExposedFolder>& exposed) {
  std::vector<UniqueFd> sources;
  for (const ExposedFolder& folder : exposed) {
    sources.emplace_back(open(folder.source.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!sources.back().valid()) return ErrnoStatus(folder.source);
  }
  for (const std::string& folder : folders) MPILAUNCH_RETURN_IF_ERROR(MountTmpfs(folder));
  for (size_t i = 0; i < exposed.size(); ++i) {
    MPILAUNCH_RETURN_IF_ERROR(Bind(sources[i].get(), exposed[i].target));
  }
  return absl::OkStatus();
}

absl::Status MountOwnProc() {
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
    return ErrnoStatus("mounting /proc");
  }
  return absl::OkStatus();
}

std::string NamespaceAdvice(const absl::Status& status) {
  if (!absl::IsPermissionDenied(status) && !absl::IsResourceExhausted(status)) return "";
  const std::string allow = "run it as root, or allow user namespaces: sysctl ";
  if (ReadSetting("user/max_user_namespaces") == "0") {
    return allow + "user.max_user_namespaces=10000";
  }
  if (absl::IsResourceExhausted(status)) {
    return "raise this system's limit: sysctl user.max_pid_namespaces (also mnt, ipc, uts, user) "
           "or "
           "ulimit -n, or take fewer workers";
  }
  if (ReadSetting("kernel/unprivileged_userns_clone") == "0") {
    return allow + "kernel.unprivileged_userns_clone=1";
  }
  if (ReadSetting("kernel/apparmor_restrict_unprivileged_userns") == "1") {
    return allow + "kernel.apparmor_restrict_unprivileged_userns=0";
  }
  return "run it as root on the machine itself (most containers forbid it), or start the "
         "containers "
         "of images/compose.yaml with docker compose";
}

}  // namespace mpilaunch
