// The one file that lets a worker or client in: CA certificate, token, expiry and ports.
#ifndef MPILAUNCH_COMMON_JOIN_BUNDLE_H_
#define MPILAUNCH_COMMON_JOIN_BUNDLE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/certificate_authority.h"

namespace mpilaunch {

struct JoinBundle {
  std::string cluster;
  Role role = Role::kWorker;
  std::string token;
  absl::Time expires;
  std::string ca_pem;
  uint16_t enrol_port = 0;
  uint16_t control_port = 0;
};

std::string FormatJoinBundle(const JoinBundle& bundle);  // JSON

// INVALID_ARGUMENT: not a join bundle, torn (says where), or a field missing.
absl::StatusOr<JoinBundle> ParseJoinBundle(absl::string_view text);

// Reads and parses. NOT_FOUND: no such file (says how one is made). FAILED_PRECONDITION: expired
// (says when). Read anew at each attempt, so that a renewed Secret is picked up. Any file mode will
// do.
absl::StatusOr<JoinBundle> ReadJoinBundle(const std::string& path, absl::Time now);

// Writes beside and renames, mode 0600.
absl::Status WriteJoinBundle(const std::string& path, const JoinBundle& bundle);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_JOIN_BUNDLE_H_
