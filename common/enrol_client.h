// How a worker or client gets its certificate: join bundle in, identity out.
#ifndef MPILAUNCH_COMMON_ENROL_CLIENT_H_
#define MPILAUNCH_COMMON_ENROL_CLIENT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/join_bundle.h"
#include "common/tls.h"

namespace mpilaunch {

struct Enrolled {
  TlsIdentity identity;
  uint16_t control_port = 0;
};

// Makes a key and has the frontend at `host`:`enrol_port` certify it as `name`. `host` is a name or
// an address, IPv6 with or without brackets. One attempt, over a connection that is gone on return;
// blocks at most until `deadline`; not for gRPC's callback threads. The errors say what to do:
//   UNAVAILABLE          not reachable, or no answer in time: worth another attempt
//   FAILED_PRECONDITION  TLS refused the server: it belongs to another cluster than the bundle
//   UNAUTHENTICATED      the token expired or is refused: needs a new bundle
//   INVALID_ARGUMENT     the name cannot be used
absl::StatusOr<Enrolled> Enrol(const std::string& host, uint16_t enrol_port,
                               const JoinBundle& bundle, const std::string& name,
                               absl::Time deadline);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_ENROL_CLIENT_H_
