// `mpilaunch PROGRAM`: brings the files to the frontend, submits the job and is its terminal.
#ifndef MPILAUNCH_LAUNCHER_RUN_CLIENT_H_
#define MPILAUNCH_LAUNCHER_RUN_CLIENT_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "launcher/command_line.h"
#include "launcher/local_files.h"

namespace mpilaunch {

struct JobFiles {
  LocalFile program;  // its path is empty when it is the workers' own
  std::vector<LocalFile> staged;
};

// Values for -x; NAME alone takes ours. NOT_FOUND: -x NAME of a variable that is not set.
absl::StatusOr<v1::JobSpec> MakeJobSpec(const RunCommand& command, const JobFiles& files,
                                        const std::string& typed_line);

// Runs the job on `channel` to its end and returns the exit code. The program's output goes to
// stdout and stderr, notices to stderr, our stdin to rank 0; INT, TERM, HUP, QUIT, USR1 and USR2 go
// to the job and must be blocked in every thread (PrepareProcess does that). `started` is when
// mpilaunch was.
int RunJob(const std::shared_ptr<grpc::Channel>& channel, const JobFiles& files,
           const v1::JobSpec& spec, absl::Time started);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_RUN_CLIENT_H_
