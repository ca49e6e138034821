// `mpilaunch PROGRAM`: brings the program to the frontend, submits the job and is its terminal.
#ifndef MPILAUNCH_LAUNCHER_RUN_CLIENT_H_
#define MPILAUNCH_LAUNCHER_RUN_CLIENT_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/sha256.h"
#include "launcher/command_line.h"

namespace mpilaunch {

// The program as found on this machine.
struct LocalProgram {
  std::string path;
  std::string name;
  FileDigest digest;
};
// Bare names: the current folder first, then PATH. NOT_FOUND, PERMISSION_DENIED (a folder, not
// executable).
absl::StatusOr<LocalProgram> FindLocalProgram(const std::string& typed);

// Values for -x; NAME alone takes ours. NOT_FOUND: -x NAME of a variable that is not set.
absl::StatusOr<v1::JobSpec> MakeJobSpec(const RunCommand& command, const LocalProgram& program,
                                        const std::string& typed_line);

// Runs the job on `channel` to its end and returns the exit code. The program's output goes to
// stdout and stderr, notices to stderr, our stdin to rank 0; INT, TERM, HUP, QUIT, USR1 and USR2 go
// to the job and must be blocked in every thread (PrepareProcess does that). `started` is when
// mpilaunch was.
int RunJob(const std::shared_ptr<grpc::Channel>& channel, const LocalProgram& program,
           const v1::JobSpec& spec, absl::Time started);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_RUN_CLIENT_H_
