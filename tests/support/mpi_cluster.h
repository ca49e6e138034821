// A local cluster with real Open MPI that a whole test suite shares, and programs compiled for it.
#ifndef MPILAUNCH_TESTS_SUPPORT_MPI_CLUSTER_H_
#define MPILAUNCH_TESTS_SUPPORT_MPI_CLUSTER_H_

#include <memory>
#include <string>
#include <vector>

#include "launcher/local_cluster.h"
#include "support/command.h"
#include "support/temporary_folder.h"

namespace mpilaunch::testing {

// mpicc `source` (a file of tests/programs or examples) -o `output`.
void CompileMpi(const std::string& source, const std::string& output,
                const std::vector<std::string>& flags = {});

// The lines of a program's output that are not empty.
std::vector<std::string> Lines(const std::string& text);

// A frontend and workers w1.. in namespaces of their own, as `mpilaunch --local` makes them, that
// stay for many commands. Start it before the test makes threads.
class MpiCluster {
 public:
  MpiCluster(int workers, uint32_t slots_per_worker);

  // `mpilaunch ARGUMENTS` against this cluster, in the programs' folder (hello and probe lie
  // there).
  CommandResult Mpilaunch(const std::vector<std::string>& arguments,
                          Command::Options options = {}) const;
  std::unique_ptr<Command> Start(const std::vector<std::string>& arguments,
                                 Command::Options options = {}) const;

  // `sh -c TEXT` there, with mpilaunch in PATH.
  CommandResult Shell(const std::string& text) const;

  const std::string& folder() const { return folder_.path(); }
  // The pid, as seen here, of a process of the cluster by its program's name and host; -1: none.
  // With `environment`, only one that has this entry.
  static pid_t FindProcess(const std::string& program, const std::string& host);
  // Pids of all processes that run `program` anywhere below.
  static std::vector<pid_t> FindProcesses(const std::string& program);

 private:
  Command::Options ForThisCluster(Command::Options options) const;

  TemporaryFolder folder_;
  std::unique_ptr<LocalCluster> cluster_;
  std::string socket_;
};

}  // namespace mpilaunch::testing

#endif  // MPILAUNCH_TESTS_SUPPORT_MPI_CLUSTER_H_
