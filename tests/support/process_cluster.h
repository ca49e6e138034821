// A frontend and agents as plain processes on loopback: what registration, trust and loss are
// tested with.
#ifndef MPILAUNCH_TESTS_SUPPORT_PROCESS_CLUSTER_H_
#define MPILAUNCH_TESTS_SUPPORT_PROCESS_CLUSTER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "support/command.h"
#include "support/temporary_folder.h"

namespace mpilaunch::testing {

class ProcessCluster {
 public:
  // Starts the frontend and returns when it is up. Ports are picked by the system the first time
  // and kept.
  void StartFrontend(const std::vector<std::string>& flags = {});
  void KillFrontend();  // SIGKILL
  Command& frontend() { return *frontend_; }

  // Starts a worker with one slot, without waiting for anything. It says "registered with" when it
  // is.
  Command& StartAgent(const std::string& name, const std::vector<std::string>& flags = {});
  Command& agent(const std::string& name) { return *agents_.at(name); }

  CommandResult Mpilaunch(const std::vector<std::string>& arguments) {
    return Start(arguments)->Finish();
  }
  std::unique_ptr<Command> Start(const std::vector<std::string>& arguments);

  std::string state_dir() const { return folder_ / "state"; }
  std::string bundle() const { return folder_ / "state/join/worker.json"; }
  std::string folder() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
  std::string control_port_ = "0";
  std::string enrol_port_ = "0";
  std::unique_ptr<Command> frontend_;
  std::map<std::string, std::unique_ptr<Command>> agents_;
};

}  // namespace mpilaunch::testing

#endif  // MPILAUNCH_TESTS_SUPPORT_PROCESS_CLUSTER_H_
