// `mpilaunch workers`, `jobs` and `cancel`.
#ifndef MPILAUNCH_LAUNCHER_STATUS_COMMANDS_H_
#define MPILAUNCH_LAUNCHER_STATUS_COMMANDS_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "launcher/command_line.h"

namespace mpilaunch {

// Pure: tables for people, and one JSON document with stable names for programs.
std::string FormatWorkers(const v1::WorkersResponse& workers);
std::string FormatWorkersJson(const v1::WorkersResponse& workers);
std::string FormatJobs(const v1::ListJobsResponse& jobs, absl::Time now);
std::string FormatJobsJson(const v1::ListJobsResponse& jobs);

// Ask the frontend and print to stdout.
absl::Status ShowWorkers(const std::shared_ptr<grpc::Channel>& channel,
                         const WorkersCommand& command);
absl::Status ShowJobs(const std::shared_ptr<grpc::Channel>& channel, const JobsCommand& command);
absl::Status CancelJob(const std::shared_ptr<grpc::Channel>& channel, const CancelCommand& command);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_STATUS_COMMANDS_H_
