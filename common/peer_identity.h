// Who a certificate speaks for, and the forms in which it stands in the certificate.
#ifndef MPILAUNCH_COMMON_PEER_IDENTITY_H_
#define MPILAUNCH_COMMON_PEER_IDENTITY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mpilaunch {

enum class Role { kFrontend, kWorker, kClient };
absl::string_view RoleName(Role role);  // "frontend", "worker", "client"
absl::StatusOr<Role> ParseRole(absl::string_view name);

// A cluster has one frontend; this is the name in its certificate, whatever its host is called.
inline constexpr char kFrontendName[] = "frontend";

// Written by the CA into the SAN as URI mpilaunch://CLUSTER/ROLE/NAME and as DNS
// NAME.ROLE.mpilaunch, the name that clients of gRPC check (ServerName).
struct PeerIdentity {
  std::string cluster;
  Role role = Role::kWorker;
  std::string name;

  friend bool operator==(const PeerIdentity&, const PeerIdentity&) = default;
};
std::string ServerName(Role role, absl::string_view name);
std::string IdentityUri(const PeerIdentity& identity);
// INVALID_ARGUMENT unless it is exactly what IdentityUri writes.
absl::StatusOr<PeerIdentity> ParseIdentityUri(absl::string_view uri);

// A host name: 1 to 63 of a-z 0-9 '-' '_' '.', first and last of a-z 0-9, no two dots in a row;
// upper case is refused. Safe as a file name and in a log line. INVALID_ARGUMENT says what is
// wrong.
absl::Status ValidateName(absl::string_view name);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_PEER_IDENTITY_H_
