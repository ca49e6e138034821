// The Open MPI that this frontend launches with.
#ifndef MPILAUNCH_LAUNCHER_MPI_INSTALLATION_H_
#define MPILAUNCH_LAUNCHER_MPI_INSTALLATION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/init_loop.h"
#include "launcher/mpi_defaults.h"
#include "membership.pb.h"

namespace mpilaunch {

struct MpiInstallation {
  std::string mpirun;   // absolute path
  std::string version;  // "4.1.4"
  MpiRuntime runtime = MpiRuntime::kOrte;
};

// "4.1.4" -> "4.1". Daemons and ranks of one job must be of one series.
std::string ReleaseSeries(const std::string& version);

// UNIMPLEMENTED names a version that is not supported.
absl::StatusOr<MpiRuntime> RuntimeOf(const std::string& version);

// "mpirun (Open MPI) 4.1.4" -> "4.1.4"; INVALID_ARGUMENT for anything that is not Open MPI's.
absl::StatusOr<std::string> ParseMpirunVersion(absl::string_view output);

// Looks in PATH and asks mpirun for its version. NOT_FOUND says which package has it,
// UNIMPLEMENTED names a version that is not supported. Blocks for as long as `mpirun --version`
// runs.
absl::StatusOr<MpiInstallation> FindMpiInstallation(InitLoop& init);

// FAILED_PRECONDITION, naming two workers that differ, unless all make jobs under the same folder
// and are of one architecture.
struct NamedFacts {
  std::string worker;
  const v1::WorkerFacts* facts;
};
absl::Status CheckWorkersAgree(const std::vector<NamedFacts>& workers);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_MPI_INSTALLATION_H_
