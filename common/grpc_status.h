// The one place where absl::Status and grpc::Status meet. Their code numbers are the same by
// definition.
#ifndef MPILAUNCH_COMMON_GRPC_STATUS_H_
#define MPILAUNCH_COMMON_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace mpilaunch {

inline grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

inline absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_GRPC_STATUS_H_
