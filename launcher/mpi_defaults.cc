#include "launcher/mpi_defaults.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace mpilaunch {
namespace {

using Shares = std::vector<RankShare>;

template <typename Predicate>
bool AnyWorker(const Shares& shares, Predicate predicate) {
  return std::any_of(shares.begin(), shares.end(),
                     [&](const RankShare& share) { return predicate(*share.facts); });
}

// What the job puts on one machine, whichever containers of it are its workers.
struct Machine {
  std::set<uint32_t> cpus;
  uint64_t ranks = 0;
  bool cpus_shared = false;  // two of the workers may run on the same cpu
};

// Workers without a boot id count as one machine each.
std::vector<Machine> Machines(const Shares& shares) {
  std::map<std::string, Machine> by_boot_id;
  std::vector<Machine> machines;
  for (const RankShare& share : shares) {
    Machine alone;
    Machine& machine = share.facts->boot_id().empty() ? alone : by_boot_id[share.facts->boot_id()];
    machine.ranks += share.ranks;
    for (uint32_t cpu : share.facts->cpus())
      machine.cpus_shared |= !machine.cpus.insert(cpu).second;
    if (&machine == &alone) machines.push_back(std::move(alone));
  }
  for (auto& [boot_id, machine] : by_boot_id) machines.push_back(std::move(machine));
  return machines;
}

// Why ranks must not be bound to cores; empty: leave it to Open MPI. Every mpirun counts cores from
// the first one it may use, so two of them on the same cpus would bind to the same cores.
std::string WhyNotBind(const MpiDefaultsRequest& request, const std::vector<Machine>& machines) {
  if (!request.exclusive)
    return "another job may come to the same workers and would bind to the same cores";
  for (const RankShare& share : request.shares) {
    const auto cpus = static_cast<uint32_t>(share.facts->cpus_size());
    if (share.ranks > cpus) return "there are more ranks than cores";
    if (share.facts->slots() < cpus)
      return "a worker has a part of its cpus' time, which others use as well";
  }
  for (const Machine& machine : machines) {
    if (machine.cpus_shared) return "several workers share the cpus of one machine";
  }
  return "";
}

// The one network that all are in; empty when there is none.
std::string CommonNetwork(const MpiDefaultsRequest& request) {
  const std::string& network =
      request.shares.empty() ? request.frontend_network : request.shares[0].facts->network();
  if (AnyWorker(request.shares,
                [&](const v1::WorkerFacts& facts) { return facts.network() != network; }))
    return "";
  if (!request.frontend_network.empty() && request.frontend_network != network) return "";
  return network;
}

class Chooser {
 public:
  explicit Chooser(const MpiDefaultsRequest& request)
      : request_(request), machines_(Machines(request.shares)) {}

  std::vector<MpiDefault> Choose() {
    Placement();
    Network();
    Transports();
    FewerComponents();
    HardwareDiscovery();
    return std::move(chosen_);
  }

 private:
  bool Prrte() const { return request_.runtime == MpiRuntime::kPrrte; }
  void Set(std::string key, std::string value, std::string why,
           MpiDefault::Kind kind = MpiDefault::Kind::kMpi) {
    chosen_.push_back({std::move(key), std::move(value), std::move(why), kind});
  }
  void SetRuntime(std::string key, std::string value, std::string why) {
    Set(std::move(key), std::move(value), std::move(why), MpiDefault::Kind::kRuntime);
  }
  void SetEnvironment(std::string key, std::string value, std::string why) {
    Set(std::move(key), std::move(value), std::move(why), MpiDefault::Kind::kEnvironment);
  }

  void Placement() {
    const std::string why = "ranks stand where mpilaunch placed them, in blocks";
    if (Prrte()) {
      // The hostfile's slots are the ranks; without the modifier PRRTE counts cores instead.
      SetRuntime("rmaps_default_mapping_policy", "slot:oversubscribe", why);
    } else {
      SetRuntime("rmaps_base_mapping_policy", "slot", why);
    }
    if (std::string why_not = WhyNotBind(request_, machines_); !why_not.empty()) {
      SetRuntime(Prrte() ? "hwloc_default_binding_policy" : "hwloc_base_binding_policy", "none",
                 std::move(why_not));
    }
    const bool crowded =
        std::any_of(machines_.begin(), machines_.end(),
                    [](const Machine& machine) { return machine.ranks > machine.cpus.size(); });
    if (crowded) Set("mpi_yield_when_idle", "1", "ranks wait for each other on the same core");
  }

  void Network() {
    if (!Prrte()) {  // 5.0 does not resolve unless told to
      SetRuntime("if_base_do_not_resolve", "1",
                 "workers are known by registration, a slow name server must not delay the start");
    }
    const std::string network = CommonNetwork(request_);
    if (network.empty())
      return;  // a network that a worker lacks would make Open MPI warn on every run
    const std::string why = "the network by which the workers reached the frontend";
    // PRRTE 3.0.8 takes names of interfaces only, which differ between workers: it warns of every
    // CIDR that it matches no interface. Its daemons try mpirun's addresses one by one instead.
    if (!Prrte()) SetRuntime("oob_tcp_if_include", network, why);
    Set("btl_tcp_if_include", network, why);
  }

  void Transports() {
    if (!AnyWorker(request_.shares, [](const v1::WorkerFacts& facts) { return facts.fabric(); })) {
      Set("pml", "ob1", "no worker has a high-speed network, so none is probed for");
      Set("btl", Prrte() ? "self,sm,tcp" : "self,vader,tcp", "no worker has a high-speed network");
      Set("osc", "^ucx", "no worker has a high-speed network");
    }
    if (AnyWorker(request_.shares, [](const v1::WorkerFacts& facts) { return !facts.cma(); })) {
      const std::string why = "a worker may not read another process's memory (CMA)";
      if (Prrte()) {
        Set("smsc", "^cma", why);
      } else {
        Set("btl_vader_single_copy_mechanism", "none", why);
      }
    }
  }

  // Components that cannot be chosen under mpilaunch are not loaded into every process.
  void FewerComponents() {
    if (Prrte()) {
      SetRuntime("plm", "ssh", "mpilaunch starts the daemons");
      SetRuntime("ras", "^slurm,gridengine,pbs,simulator,testrm", "mpilaunch chooses the workers");
      return;
    }
    SetRuntime("plm", "rsh", "mpilaunch starts the daemons");
    SetRuntime("ras", "^slurm,gridengine,simulator,tm,lsf,loadleveler,alps",
               "mpilaunch chooses the workers");
    SetRuntime("schizo", "^slurm,jsm,flux,alps,moab,singularity", "ranks are started by mpirun");
    SetRuntime("state", "^novm,tool", "used by other programs only");
    SetRuntime("errmgr", "^default_tool", "used by other programs only");
    SetRuntime("iof", "^tool", "used by other programs only");
    SetRuntime("odls", "^pspawn", "not Open MPI's choice");
    SetRuntime("regx", "^reverse,naive", "not Open MPI's choice");
  }

  // For mpirun itself, which runs no ranks; workers choose for their own from the devices they
  // have.
  void HardwareDiscovery() {
    SetEnvironment("HWLOC_COMPONENTS", "-pci,-opencl,-gl,-linuxio",
                   "the frontend's devices do not matter");
    SetEnvironment(
        "HWLOC_PLUGINS_BLACKLIST",
        "hwloc_pci.so,hwloc_opencl.so,hwloc_gl.so,hwloc_xml_libxml.so,hwloc_cuda.so,hwloc_nvml.so,"
        "hwloc_rsmi.so,hwloc_levelzero.so",
        "the frontend's devices do not matter");
  }

  const MpiDefaultsRequest& request_;
  const std::vector<Machine> machines_;
  std::vector<MpiDefault> chosen_;
};

}  // namespace

std::vector<MpiDefault> ChooseMpiDefaults(const MpiDefaultsRequest& request) {
  return Chooser(request).Choose();
}

std::vector<MpiDefault> WithoutOverridden(std::vector<MpiDefault> defaults,
                                          const std::vector<v1::McaParameter>& mca) {
  auto overridden = [&](const MpiDefault& choice) {
    return choice.kind != MpiDefault::Kind::kEnvironment &&
           std::any_of(mca.begin(), mca.end(), [&](const v1::McaParameter& parameter) {
             return parameter.key() == choice.key;
           });
  };
  defaults.erase(std::remove_if(defaults.begin(), defaults.end(), overridden), defaults.end());
  return defaults;
}

}  // namespace mpilaunch
