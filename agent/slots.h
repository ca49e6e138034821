// How many ranks this container should take: cores it may use, or less where a CPU quota says so.
#ifndef MPILAUNCH_AGENT_SLOTS_H_
#define MPILAUNCH_AGENT_SLOTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace mpilaunch {

struct SlotInputs {
  uint32_t set_by_user = 0;    // --slots; 0: find out
  uint32_t affinity_cpus = 0;  // cores in the affinity set of this process; 0: unknown
  std::string own_cgroup;      // contents of /proc/self/cgroup
  std::string mountinfo;       // contents of /proc/self/mountinfo
  // Contents of a small file below a cgroup mount, or nothing when it cannot be read.
  std::function<std::optional<std::string>(const std::string& path)> read_file;
};

struct Slots {
  uint32_t count = 1;
  std::string reason;  // for people: "2 cores by affinity", "ceil(cpu quota 1.5), cgroup v2"
};

// Pure. Texts that are not understood count as "no quota" and are named in the reason. The quota is
// the tightest of our own cgroup and its ancestors, as far as they are mounted here, in cgroup v2
// and v1.
Slots CountSlots(const SlotInputs& inputs);

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_SLOTS_H_
