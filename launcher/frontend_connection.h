// The command line's connection to the frontend on the same machine.
#ifndef MPILAUNCH_LAUNCHER_FRONTEND_CONNECTION_H_
#define MPILAUNCH_LAUNCHER_FRONTEND_CONNECTION_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace mpilaunch {

// NOT_FOUND: nobody listens there (says how to start a frontend). PERMISSION_DENIED: another
// user's.
absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectToFrontend(const std::string& socket_path);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_FRONTEND_CONNECTION_H_
