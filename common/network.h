// This machine's addresses and networks.
#ifndef MPILAUNCH_COMMON_NETWORK_H_
#define MPILAUNCH_COMMON_NETWORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mpilaunch {

// The local address of a connection to `host`, as text; asks the routing table, sends nothing.
// UNAVAILABLE: the name does not resolve (yet) or no route leads there. Blocks as long as the
// resolver does.
absl::StatusOr<std::string> LocalAddressTowards(const std::string& host, uint16_t port);

// The network of the interface that has `local_address` (IPv4 or IPv6, as text), as CIDR:
// "172.17.0.3" -> "172.17.0.0/16". NOT_FOUND when no interface has it.
absl::StatusOr<std::string> NetworkOf(const std::string& local_address);

// The pure part of NetworkOf.
struct InterfaceAddress {
  std::string address;
  std::string netmask;
};
absl::StatusOr<std::string> NetworkAmong(const std::vector<InterfaceAddress>& interfaces,
                                         const std::string& local_address);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_NETWORK_H_
