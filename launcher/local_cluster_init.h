// Process 1 of a local cluster: starts the frontend and the agents in namespaces of their own, and
// ends with whoever asked for them. When it ends, the kernel ends all that is below it.
#ifndef MPILAUNCH_LAUNCHER_LOCAL_CLUSTER_INIT_H_
#define MPILAUNCH_LAUNCHER_LOCAL_CLUSTER_INIT_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "launcher/local_cluster.h"

namespace mpilaunch {

struct LocalClusterInitOptions {
  LocalClusterOptions cluster;
  bool in_user_namespace = false;
  uid_t uid = 0;  // of the caller, as before the new namespaces
  gid_t gid = 0;
};

// The first message on the control socket (SOCK_SEQPACKET) is one of these, and the last.
// kLocalStarted carries a descriptor of the folder that holds kLocalSocketName; kLocalFailed is
// followed by the reason.
inline constexpr char kLocalStarted = 'S';
inline constexpr char kLocalFailed = 'F';
inline constexpr size_t kMaxLocalReasonBytes = 16 << 10;
inline constexpr char kLocalSocketName[] = "mpilaunchd.sock";

// What the frontend and the agents get as environment: `environment` without what would make them
// differ from a fresh container: our own settings that name places (what tunes an agent stays),
// those of Open MPI, of PMIx and of batch systems, and folders for temporary files that are not
// there.
std::vector<std::string> LocalDaemonEnvironment(const std::vector<std::string>& environment);

// In the child of ForkIntoNamespaces(NEWPID | NEWNS | NEWIPC [| NEWUSER]), as its process 1.
[[noreturn]] void RunLocalClusterInit(const LocalClusterInitOptions& options, UniqueFd control);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_LOCAL_CLUSTER_INIT_H_
