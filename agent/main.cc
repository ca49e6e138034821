#include <cstdio>

#include "agent/agent.h"
#include "common/exit_codes.h"
#include "common/init_loop.h"
#include "common/logging.h"

int main(int argc, char** argv) {
  using namespace mpilaunch;
  PrepareProcess();
  int exit_code = -1;
  const AgentOptions options = ParseAgentOptions(argc, argv, exit_code);
  if (exit_code >= 0) return exit_code;
  if (absl::Status status = InitLogging(options.logging); !status.ok()) {
    std::fprintf(stderr, "mpilaunch-agent: %s\n", std::string(status.message()).c_str());
    return kExitUsage;
  }
  auto agent = Agent::Start(options);
  if (!agent.ok()) {
    std::fprintf(stderr, "mpilaunch-agent: %s\n", std::string(agent.status().message()).c_str());
    return 1;
  }
  return (*agent)->Wait();
}
