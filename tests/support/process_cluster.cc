#include "support/process_cluster.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "absl/strings/str_cat.h"
#include "common/join_bundle.h"

namespace mpilaunch::testing {

void ProcessCluster::StartFrontend(const std::vector<std::string>& flags) {
  std::vector<std::string> argv = {absl::StrCat(MPILAUNCH_BIN_DIR, "/mpilaunchd"),
                                   "--listen",
                                   "127.0.0.1",
                                   "--control-port",
                                   control_port_,
                                   "--enrol-port",
                                   enrol_port_,
                                   "--state-dir",
                                   state_dir(),
                                   "--socket",
                                   folder_ / "run/mpilaunchd.sock"};
  argv.insert(argv.end(), flags.begin(), flags.end());
  frontend_ = std::make_unique<Command>(argv);
  ASSERT_TRUE(frontend_->AwaitOutput("frontend up"));
  const absl::StatusOr<JoinBundle> joined = ReadJoinBundle(bundle(), absl::Now());
  ASSERT_TRUE(joined.ok()) << joined.status();
  control_port_ = absl::StrCat(joined->control_port);
  enrol_port_ = absl::StrCat(joined->enrol_port);
}

void ProcessCluster::KillFrontend() {
  frontend_->Signal(SIGKILL);
  frontend_->Finish();
}

Command& ProcessCluster::StartAgent(const std::string& name,
                                    const std::vector<std::string>& flags) {
  std::vector<std::string> argv = {absl::StrCat(MPILAUNCH_BIN_DIR, "/mpilaunch-agent"),
                                   "--frontend",
                                   "127.0.0.1",
                                   "--listen",
                                   "127.0.0.1",
                                   "--slots",
                                   "1",
                                   "--name",
                                   name,
                                   "--join-bundle",
                                   bundle(),
                                   "--job-root",
                                   folder_ / absl::StrCat("job-root-", name)};
  argv.insert(argv.end(), flags.begin(), flags.end());
  agents_[name] = std::make_unique<Command>(argv);
  return *agents_[name];
}

std::unique_ptr<Command> ProcessCluster::Start(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {absl::StrCat(MPILAUNCH_BIN_DIR, "/mpilaunch")};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  Command::Options options;
  options.environment = {absl::StrCat("MPILAUNCH_SOCKET=", folder_ / "run/mpilaunchd.sock")};
  options.working_directory = folder_.path();
  return std::make_unique<Command>(argv, options);
}

}  // namespace mpilaunch::testing
