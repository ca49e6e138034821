#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "common/daemon_options.h"
#include "launcher/frontend.h"
#include "launcher/unix_listener.h"

namespace mpilaunch {
namespace {

constexpr char kDescription[] =
    "The frontend of an mpilaunch cluster: workers register here, `mpilaunch` sends its jobs "
    "here.\n"
    "It makes a join bundle (one file) at its first start; give that file to every worker:\n"
    "  mpilaunch-agent --frontend THIS_HOST --join-bundle FILE";

std::string DefaultStateDir() {
  if (geteuid() == 0) return "/var/lib/mpilaunch";
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/') {
    return absl::StrCat(state, "/mpilaunch");
  }
  const char* home = std::getenv("HOME");
  return absl::StrCat(home == nullptr ? "" : home, "/.local/state/mpilaunch");
}

}  // namespace

FrontendOptions ParseFrontendOptions(int argc, char** argv, int& exit_code) {
  FrontendOptions options;
  options.state_dir = DefaultStateDir();
  options.socket = DefaultSocketPath();
  double bundle_days = 30;
  CLI::App app(kDescription, "mpilaunchd");
  app.add_option("--listen", options.listen, "Address that workers reach")
      ->envname("MPILAUNCH_LISTEN")
      ->capture_default_str();
  app.add_option("--control-port", options.control_port,
                 "Port of registered workers (mTLS); 0: any free one")
      ->envname("MPILAUNCH_CONTROL_PORT")
      ->capture_default_str();
  app.add_option("--enrol-port", options.enrol_port,
                 "Port of workers that ask for a certificate; 0: any free one")
      ->envname("MPILAUNCH_ENROL_PORT")
      ->capture_default_str();
  app.add_option("--state-dir", options.state_dir,
                 "Folder of the certificate authority and the blobs; keep it over restarts")
      ->envname("MPILAUNCH_STATE_DIR")
      ->capture_default_str();
  app.add_option("--socket", options.socket, "Unix socket of the `mpilaunch` command")
      ->envname("MPILAUNCH_SOCKET")
      ->capture_default_str();
  app.add_option("--join-bundle", options.join_bundle,
                 "Where to write the workers' join bundle (default: STATE_DIR/join/worker.json)")
      ->envname("MPILAUNCH_JOIN_BUNDLE");
  app.add_option("--bundle-days", bundle_days,
                 "Days until a join bundle expires; it is renewed half way")
      ->envname("MPILAUNCH_BUNDLE_DAYS")
      ->check(CLI::Range(0.001, 3650.0))
      ->capture_default_str();
  app.add_option("--ready-fd", options.ready_fd,
                 "Write one byte to this file descriptor when everything is up");
  AddDaemonOptions(app, options.store_bytes, options.logging);
  exit_code = ParseDaemonOptions(app, argc, argv, [] { return absl::OkStatus(); });
  options.bundle_lifetime = absl::Hours(24) * bundle_days;
  if (options.join_bundle.empty()) options.join_bundle = options.state_dir + "/join/worker.json";
  return options;
}

}  // namespace mpilaunch
