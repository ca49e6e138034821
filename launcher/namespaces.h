// Linux namespaces for the local cluster: processes with a host name, process table, /tmp and
// /dev/shm of their own. For a process with one thread; nothing here may be called next to others.
#ifndef MPILAUNCH_LAUNCHER_NAMESPACES_H_
#define MPILAUNCH_LAUNCHER_NAMESPACES_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace mpilaunch {

// As fork(), with the child in new namespaces (CLONE_NEW*); with CLONE_NEWPID it is their
// process 1. 0 in the child. The error's code follows errno: PERMISSION_DENIED where the system
// forbids it, RESOURCE_EXHAUSTED above a limit.
absl::StatusOr<pid_t> ForkIntoNamespaces(int namespaces);

// First thing in a child with CLONE_NEWUSER: keeps user and group as they were, and all
// capabilities inside until the next exec.
absl::Status MapOwnIds(uid_t uid, gid_t gid);

// First thing in a child with CLONE_NEWNS: no mount made from now on is seen outside.
absl::Status MakeMountsPrivate();

// `source` shows up as `target` in the new folders that MountPrivateFolders makes.
struct ExposedFolder {
  std::string source;  // as seen before the mounts
  std::string target;  // right below one of the folders
};

// An empty tmpfs over each of `folders` ("/tmp", "/dev/shm"; one that does not exist is left out),
// then `exposed` bound into them.
absl::Status MountPrivateFolders(const std::vector<std::string>& folders,
                                 const std::vector<ExposedFolder>& exposed);

// In a child with CLONE_NEWPID and CLONE_NEWNS: /proc shows its own processes only.
absl::Status MountOwnProc();

// What a person can do when one of the above failed with `status`, from what this system's settings
// say; empty when nothing is known to help.
std::string NamespaceAdvice(const absl::Status& status);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_NAMESPACES_H_
