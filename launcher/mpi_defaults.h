// Open MPI settings chosen from what a job's workers reported, each with its reason. Pure.
// The measurements behind them are in docs/decisions/0003-mpi-defaults.md.
#ifndef MPILAUNCH_LAUNCHER_MPI_DEFAULTS_H_
#define MPILAUNCH_LAUNCHER_MPI_DEFAULTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "job.pb.h"
#include "membership.pb.h"

namespace mpilaunch {

// What starts the daemons and ranks below mpirun, and so which names its settings have: ORTE in
// Open MPI 4.1, PRRTE in 5.0.
enum class MpiRuntime { kOrte, kPrrte };

struct MpiDefault {
  enum class Kind {
    kMpi,          // an MCA parameter of the ranks' library
    kRuntime,      // an MCA parameter of the run-time: mpirun and its daemons
    kEnvironment,  // an environment variable of mpirun's own
  };
  std::string key;
  std::string value;
  std::string why;  // one sentence for people
  Kind kind = Kind::kMpi;

  friend bool operator==(const MpiDefault&, const MpiDefault&) = default;
};

// One block of ranks and the facts of the worker that runs it. The facts must outlive the call.
struct RankShare {
  const v1::WorkerFacts* facts = nullptr;
  uint32_t ranks = 0;
};

struct MpiDefaultsRequest {
  MpiRuntime runtime = MpiRuntime::kOrte;
  std::vector<RankShare> shares;
  // The job takes every slot of each of its workers, so that no other job of ours comes there.
  bool exclusive = false;
  // The frontend's own network towards the workers, as CIDR; empty when unknown.
  std::string frontend_network;
};

std::vector<MpiDefault> ChooseMpiDefaults(const MpiDefaultsRequest& request);

// `defaults` without those whose MCA key stands in `mca`: what the user says wins.
std::vector<MpiDefault> WithoutOverridden(std::vector<MpiDefault> defaults,
                                          const std::vector<v1::McaParameter>& mca);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_MPI_DEFAULTS_H_
