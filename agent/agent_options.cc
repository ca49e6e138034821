#include <unistd.h>

#include <CLI/CLI.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "common/daemon_options.h"

namespace mpilaunch {
namespace {

constexpr char kDescription[] =
    "The worker of an mpilaunch cluster: registers with the frontend and runs the ranks that it "
    "starts.\n"
    "Works as PID 1 of any container image that has Open MPI:\n"
    "  mpilaunch-agent --frontend mpife --join-bundle /run/join/worker.json";

std::string HostName() {
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  return name;
}

// "host", "host:port", "[v6]:port", "v6".
absl::Status SplitFrontend(AgentOptions& options) {
  std::string& host = options.frontend;
  std::string port;
  if (!host.empty() && host[0] == '[') {
    const size_t end = host.find(']');
    if (end == std::string::npos) return absl::InvalidArgumentError("--frontend: ']' is missing");
    if (end + 1 < host.size() && host[end + 1] == ':') port = host.substr(end + 2);
    host = host.substr(1, end - 1);
  } else if (const size_t colon = host.find(':');
             colon != std::string::npos && host.find(':', colon + 1) == std::string::npos) {
    port = host.substr(colon + 1);
    host.resize(colon);
    if (port.empty()) return absl::InvalidArgumentError("--frontend: no port after ':'");
  }
  if (host.empty()) return absl::InvalidArgumentError("--frontend: no host named");
  uint32_t number = 0;
  if (!port.empty() && (!absl::SimpleAtoi(port, &number) || number == 0 || number > 65535)) {
    return absl::InvalidArgumentError(absl::StrCat("--frontend: ", port, " is no port"));
  }
  options.control_port = static_cast<uint16_t>(number);
  return absl::OkStatus();
}

}  // namespace

AgentOptions ParseAgentOptions(int argc, char** argv, int& exit_code) {
  AgentOptions options;
  options.name = HostName();
  std::string preload = "on";
  CLI::App app(kDescription, "mpilaunch-agent");
  app.add_option("--frontend", options.frontend, "HOST[:CONTROL_PORT] of mpilaunchd")
      ->envname("MPILAUNCH_FRONTEND")
      ->required();
  app.add_option("--enrol-port", options.enrol_port,
                 "Port where certificates are asked for (default: as the join bundle says)")
      ->envname("MPILAUNCH_ENROL_PORT");
  app.add_option("--join-bundle", options.join_bundle,
                 "The file that mpilaunchd wrote for its workers; waited for while it is missing")
      ->envname("MPILAUNCH_JOIN_BUNDLE")
      ->required();
  app.add_option("--name", options.name, "Name of this worker, unique in the cluster")
      ->envname("MPILAUNCH_NAME")
      ->capture_default_str();
  app.add_option("--slots", options.slots,
                 "Ranks to accept (default: cores that this container may use)")
      ->envname("MPILAUNCH_SLOTS")
      ->check(CLI::Range(1, 4096));
  app.add_option("--job-root", options.job_root,
                 "Folder for job directories, the same on all workers of a job")
      ->envname("MPILAUNCH_JOB_ROOT")
      ->capture_default_str();
  app.add_option("--listen", options.listen, "Address that the frontend reaches")
      ->envname("MPILAUNCH_LISTEN")
      ->capture_default_str();
  app.add_option("--port", options.port, "Port for the frontend; 0: any free one")
      ->envname("MPILAUNCH_PORT")
      ->capture_default_str();
  app.add_option(
         "--preload", preload,
         "on: cure Open MPI's 40 ms stall in MPI_Finalize by a preloaded library; off: leave it")
      ->envname("MPILAUNCH_PRELOAD")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  AddDaemonOptions(app, options.store_bytes, options.logging);
  exit_code = ParseDaemonOptions(app, argc, argv, [&] { return SplitFrontend(options); });
  options.preload = preload == "on";
  return options;
}

}  // namespace mpilaunch
