// The command line and environment of the one mpirun per job. Pure.
#ifndef MPILAUNCH_LAUNCHER_MPIRUN_COMMAND_H_
#define MPILAUNCH_LAUNCHER_MPIRUN_COMMAND_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "job.pb.h"
#include "launcher/mpi_defaults.h"

namespace mpilaunch {

struct MpirunRequest {
  MpiRuntime runtime = MpiRuntime::kOrte;
  std::string job;
  v1::JobSpec spec;    // program, arguments, environment, working_directory, mca, tag_output
  uint32_t ranks = 0;  // as placed; spec.ranks() may be 0
  std::vector<MpiDefault>
      defaults;              // of ChooseMpiDefaults; the user's parameters override them here
  std::string mpirun;        // absolute path
  std::string hostfile;      // absolute path
  std::string frontend_tmp;  // mpirun's session files
  std::string rsh_agent;     // absolute path of mpilaunch-rsh
  std::string rsh_socket;    // where mpilaunch-rsh finds mpilaunchd
  std::string job_root;      // of the workers; the job's directory there is job_root/job
  bool root = false;         // mpirun runs as uid 0
  std::vector<std::string>
      frontend_environment;  // "NAME=value"; only PATH, HOME, USER and LANG are taken
};

struct MpirunCommand {
  std::vector<std::string> argv;
  std::vector<std::string> environment;  // "NAME=value", complete
  std::vector<std::string> explanation;  // one line per setting, for -v
  // For mpirun's RLIMIT_NOFILE, to be set right after it was spawned (prlimit): it closes every
  // possible descriptor one by one before it starts an rsh agent, which takes more than a second
  // per worker at 2^20, a usual limit in containers.
  uint64_t max_open_files = 0;
};

// `request.spec` has passed CheckMpirunSpec.
MpirunCommand BuildMpirunCommand(const MpirunRequest& request);

// INVALID_ARGUMENT, for a person, when an MCA parameter or variable of `spec` cannot be handed
// over: Open MPI puts parameters between double quotes into shell text and does not quote what is
// inside.
absl::Status CheckMpirunSpec(const v1::JobSpec& spec);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_MPIRUN_COMMAND_H_
