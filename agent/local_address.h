// Which of our addresses the frontend sees.
#ifndef MPILAUNCH_AGENT_LOCAL_ADDRESS_H_
#define MPILAUNCH_AGENT_LOCAL_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace mpilaunch {

// The local address of a connection to `host`, as text; asks the routing table, sends nothing.
// UNAVAILABLE: the name does not resolve (yet) or no route leads there. Blocks as long as the resolver does.
absl::StatusOr<std::string> LocalAddressTowards(const std::string& host, uint16_t port);

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_LOCAL_ADDRESS_H_
