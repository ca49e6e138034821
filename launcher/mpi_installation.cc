#include "launcher/mpi_installation.h"

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/program_path.h"
#include "common/run_program.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kVersionTimeout = absl::Seconds(20);

}  // namespace

std::string ReleaseSeries(const std::string& version) {
  const std::vector<std::string> parts = absl::StrSplit(version, '.');
  return parts.size() < 2 ? version : absl::StrCat(parts[0], ".", parts[1]);
}

absl::StatusOr<std::string> ParseMpirunVersion(absl::string_view output) {
  absl::string_view line = output.substr(0, output.find('\n'));
  if (!absl::ConsumePrefix(&line, "mpirun (Open MPI) ") || line.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("mpirun in PATH is not Open MPI's: `mpirun --version` says \"", line, "\""));
  }
  return std::string(line);
}

absl::StatusOr<MpiRuntime> RuntimeOf(const std::string& version) {
  const std::string series = ReleaseSeries(version);
  if (series == "4.1") return MpiRuntime::kOrte;
  if (series == "5.0") return MpiRuntime::kPrrte;
  return absl::UnimplementedError(
      absl::StrCat("Open MPI ", version, " is not supported: 4.1 and 5.0 are"));
}

absl::StatusOr<MpiInstallation> FindMpiInstallation(InitLoop& init) {
  const char* path = std::getenv("PATH");
  absl::StatusOr<std::string> mpirun = FindProgram("mpirun", path == nullptr ? "" : path);
  if (!mpirun.ok()) {
    return absl::NotFoundError(
        "no mpirun in PATH: the frontend needs Open MPI (Debian: apt-get install openmpi-bin)");
  }
  MPILAUNCH_ASSIGN_OR_RETURN(
      const ProgramResult result,
      RunProgram(init, {*mpirun, "--version"}, CurrentEnvironment(), kVersionTimeout));
  MPILAUNCH_ASSIGN_OR_RETURN(std::string version, ParseMpirunVersion(result.stdout_text));
  MPILAUNCH_ASSIGN_OR_RETURN(const MpiRuntime runtime, RuntimeOf(version));
  return MpiInstallation{
      .mpirun = *std::move(mpirun), .version = std::move(version), .runtime = runtime};
}

absl::Status CheckWorkersAgree(const std::vector<NamedFacts>& workers) {
  for (const NamedFacts& worker : workers) {
    const v1::WorkerFacts& first = *workers.front().facts;
    if (worker.facts->job_root() != first.job_root()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "workers of a job need the same --job-root: ", workers.front().worker, " has ",
          first.job_root(), ", ", worker.worker, " has ", worker.facts->job_root()));
    }
    if (worker.facts->architecture() != first.architecture()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "workers of a job need the same architecture: ", workers.front().worker, " is ",
          first.architecture(), ", ", worker.worker, " is ", worker.facts->architecture()));
    }
  }
  return absl::OkStatus();
}

}  // namespace mpilaunch
