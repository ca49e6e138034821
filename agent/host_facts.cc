#include "agent/host_facts.h"

#include <gnu/libc-version.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "agent/slots.h"
#include "common/logging.h"
#include "common/program_path.h"
#include "common/run_program.h"

namespace mpilaunch {
namespace {

constexpr size_t kMaxKernelFileBytes = 1 << 20;  // mountinfo of a crowded host
constexpr absl::Duration kToolTimeout = absl::Seconds(10);

// Files of /proc and /sys say size 0, so read until the end.
std::optional<std::string> ReadKernelFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text(kMaxKernelFileBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return std::nullopt;
  text.resize(file.gcount());
  return text;
}

std::string ReadLine(const std::string& path) {
  return std::string(absl::StripAsciiWhitespace(ReadKernelFile(path).value_or("")));
}

// cpu_set_t ends at 1024 cores, the kernel does not: grow until it is satisfied.
std::vector<uint32_t> AffinitySet() {
  for (int capacity = 1024; capacity <= 1 << 20; capacity *= 2) {
    const auto free_set = [](cpu_set_t* set) { CPU_FREE(set); };
    const std::unique_ptr<cpu_set_t, decltype(free_set)> set(CPU_ALLOC(capacity), free_set);
    const size_t bytes = CPU_ALLOC_SIZE(capacity);
    if (sched_getaffinity(0, bytes, set.get()) == 0) {
      std::vector<uint32_t> cpus;
      for (int cpu = 0; cpu < capacity; ++cpu) {
        if (CPU_ISSET_S(cpu, bytes, set.get())) cpus.push_back(cpu);
      }
      return cpus;
    }
    if (errno != EINVAL) break;
  }
  return {};
}

// The quickest tool first (5 ms and 13 ms where both are warm); orted does not know --version, and
// prted tells PRRTE's.
std::string OpenMpiVersion(InitLoop& init) {
  for (const char* tool : {"mpirun", "ompi_info"}) {
    absl::StatusOr<ProgramResult> result =
        RunProgram(init, {tool, "--version"}, CurrentEnvironment(), kToolTimeout);
    if (!result.ok()) {
      if (!absl::IsNotFound(result.status())) LogWarning(result.status().message());
      continue;
    }
    std::string version = ParseOpenMpiVersion(result->stdout_text);
    if (!version.empty()) return version;
  }
  return "";
}

// A read of our own memory: permission checks do not apply, so only seccomp or the kernel can
// refuse.
bool SelfReadWorks() {
  char from = 'x';
  char to = '\0';
  const iovec local{&to, 1};
  const iovec remote{&from, 1};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 && to == from;
}

bool HasPtraceCapability() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (syscall(SYS_capget, &header, data.data()) != 0) return false;
  return (data[CAP_TO_INDEX(CAP_SYS_PTRACE)].effective & CAP_TO_MASK(CAP_SYS_PTRACE)) != 0;
}

std::vector<std::string> DevicePaths() {
  std::vector<std::string> paths;
  for (const char* folder : {"/dev", "/dev/infiniband", "/dev/dri"}) {
    std::error_code error;
    std::filesystem::directory_iterator entry(folder, error);
    for (; !error && entry != std::filesystem::end(entry); entry.increment(error)) {
      paths.push_back(entry->path());
    }
  }
  return paths;
}

void SetMachineFacts(v1::WorkerFacts& facts) {
  utsname names{};
  if (uname(&names) == 0) {
    facts.set_host_name(names.nodename);
    facts.set_architecture(names.machine);
  }
  // We link glibc dynamically, so this is the container's own.
  facts.set_glibc_version(gnu_get_libc_version());
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) == 0) facts.set_shm_bytes(uint64_t{shm.f_blocks} * shm.f_frsize);
  facts.set_boot_id(ReadLine("/proc/sys/kernel/random/boot_id"));
}

void SetSlots(uint32_t set_by_user, v1::WorkerFacts& facts) {
  const std::vector<uint32_t> cpus = AffinitySet();
  SlotInputs inputs;
  inputs.set_by_user = set_by_user;
  inputs.affinity_cpus = static_cast<uint32_t>(cpus.size());
  inputs.own_cgroup = ReadKernelFile("/proc/self/cgroup").value_or("");
  inputs.mountinfo = ReadKernelFile("/proc/self/mountinfo").value_or("");
  inputs.read_file = ReadKernelFile;
  Slots slots = CountSlots(inputs);
  facts.set_slots(slots.count);
  facts.set_slots_reason(std::move(slots.reason));
  facts.mutable_cpus()->Add(cpus.begin(), cpus.end());
}

// Digits, or nothing, after `prefix`: "/dev/nvidia0" but not "/dev/nvidiactl", which is there
// without a GPU.
bool IsNumbered(absl::string_view path, absl::string_view prefix) {
  return absl::ConsumePrefix(&path, prefix) && !path.empty() &&
         std::all_of(path.begin(), path.end(), absl::ascii_isdigit);
}

bool IsFabric(absl::string_view path) {
  return IsNumbered(path, "/dev/infiniband/uverbs") || IsNumbered(path, "/dev/hfi1_") ||
         IsNumbered(path, "/dev/cxi");
}

bool IsGpu(absl::string_view path) {
  return IsNumbered(path, "/dev/nvidia") || IsNumbered(path, "/dev/dri/renderD") ||
         path == "/dev/kfd" || path == "/dev/dxg";
}

}  // namespace

v1::WorkerFacts GatherHostFacts(const HostFactsOptions& options, InitLoop& init) {
  v1::WorkerFacts facts;
  SetMachineFacts(facts);
  SetSlots(options.slots, facts);
  facts.set_mpi_version(OpenMpiVersion(init));
  facts.set_cma(CmaWorks(
      {SelfReadWorks(), ReadLine("/proc/sys/kernel/yama/ptrace_scope"), HasPtraceCapability()}));
  const DeviceFacts devices = ClassifyDevices(DevicePaths());
  facts.set_fabric(devices.fabric);
  facts.set_pci_locality(devices.pci_locality);
  facts.set_job_root(options.job_root);
  facts.set_agent_version(MPILAUNCH_VERSION);
  return facts;
}

std::string ParseOpenMpiVersion(absl::string_view output) {
  if (!absl::StrContains(output, "Open MPI")) return "";
  const absl::string_view first_line = output.substr(0, output.find('\n'));
  for (absl::string_view word : absl::StrSplit(first_line, ' ', absl::SkipEmpty())) {
    absl::ConsumePrefix(&word, "v");
    word = absl::StripSuffix(word, "\r");
    if (!word.empty() && absl::ascii_isdigit(word[0]) && absl::StrContains(word, '.')) {
      return std::string(word);
    }
  }
  return "";
}

// The self-read shows what seccomp (Docker's older profiles) and the kernel allow. Yama is stricter
// with siblings than with oneself, which ranks are to each other: 1 allows it to those who were
// named by prctl(PR_SET_PTRACER), as Open MPI does for everybody; 2 wants CAP_SYS_PTRACE; 3 nobody.
// Not covered: ranks that run under another uid or in another user namespace than the agent.
bool CmaWorks(const CmaEvidence& evidence) {
  if (!evidence.self_read_works) return false;
  int scope = 0;
  if (!absl::SimpleAtoi(evidence.ptrace_scope, &scope)) return evidence.ptrace_scope.empty();
  return scope <= 1 || (scope == 2 && evidence.may_trace_anyone);
}

DeviceFacts ClassifyDevices(const std::vector<std::string>& device_paths) {
  DeviceFacts facts;
  for (const std::string& path : device_paths) {
    facts.fabric = facts.fabric || IsFabric(path);
    facts.pci_locality = facts.pci_locality || IsFabric(path) || IsGpu(path);
  }
  return facts;
}

}  // namespace mpilaunch
