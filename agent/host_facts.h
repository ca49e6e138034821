// What this container is: found out once, at the agent's start, and reported with the registration.
#ifndef MPILAUNCH_AGENT_HOST_FACTS_H_
#define MPILAUNCH_AGENT_HOST_FACTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/init_loop.h"
#include "membership.pb.h"

namespace mpilaunch {

struct HostFactsOptions {
  uint32_t slots = 0;    // --slots; 0: find out
  std::string job_root;  // passed on to the frontend
};

// Everything but `address` and `network`. Blocks for some 10 ms: runs Open MPI's own tool through
// `init` to learn its version. What cannot be found out stays empty, zero or false.
v1::WorkerFacts GatherHostFacts(const HostFactsOptions& options, InitLoop& init);

// The pure parts.

// "4.1.4" of what `mpirun --version` or `ompi_info --version` prints; empty when it is not Open
// MPI's.
std::string ParseOpenMpiVersion(absl::string_view output);

// Whether ranks can read each other's memory with process_vm_readv.
struct CmaEvidence {
  bool self_read_works = false;   // seccomp and kernels without the call refuse that already
  std::string ptrace_scope;       // contents of Yama's ptrace_scope; empty: no Yama
  bool may_trace_anyone = false;  // CAP_SYS_PTRACE
};
bool CmaWorks(const CmaEvidence& evidence);

struct DeviceFacts {
  bool fabric = false;        // InfiniBand, RoCE or EFA (verbs), Omni-Path, Slingshot
  bool pci_locality = false;  // a fabric or a GPU
};
// From paths of device nodes, "/dev/..." each. Only a device node counts: /sys/class/infiniband
// shows the host's devices in containers, too, that may not open them.
DeviceFacts ClassifyDevices(const std::vector<std::string>& device_paths);

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_HOST_FACTS_H_
