// mpilaunch-agent: one per container. Registers with the frontend and runs what the frontend
// starts.
#ifndef MPILAUNCH_AGENT_AGENT_H_
#define MPILAUNCH_AGENT_AGENT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/logging.h"

namespace mpilaunch {

struct AgentOptions {
  std::string frontend;       // host name or address
  uint16_t control_port = 0;  // 0: as the join bundle says
  uint16_t enrol_port = 0;    // likewise
  std::string join_bundle;    // file; may appear later
  std::string name;           // default: the host name
  uint32_t slots = 0;         // 0: found out
  std::string job_root = "/tmp/mpilaunch";
  std::string listen = "0.0.0.0";
  uint16_t port = 0;  // 0: any free one
  uint64_t store_bytes = 4ull << 30;
  bool preload = true;  // the cure of the stall in MPI_Finalize, see docs/decisions/0002
  LoggingOptions logging;
};

// Flags > MPILAUNCH_* environment > file (--config) > default. Prints help or the error itself:
// `exit_code` >= 0 means that main returns it.
AgentOptions ParseAgentOptions(int argc, char** argv, int& exit_code);

class Agent {
 public:
  // Finds out about its container and starts to dial. Errors are those that waiting does not mend.
  static absl::StatusOr<std::unique_ptr<Agent>> Start(const AgentOptions& options);
  virtual ~Agent() = default;

  // Blocks until SIGTERM or SIGINT; ends everything that it started, within 10 s; returns 128 +
  // signal.
  virtual int Wait() = 0;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_AGENT_H_
