#include "common/network.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/unique_fd.h"

namespace mpilaunch {
namespace {

// 4 or 16 bytes; empty when it is no address. An IPv4 connection of an IPv6 socket counts as IPv4.
std::string ParseAddress(absl::string_view text) {
  // "fe80::1%eth0": the zone is not part of the address.
  std::string address(text.substr(0, text.find('%')));
  if (absl::StrContains(address, '.')) address.erase(0, address.rfind(':') + 1);
  std::string bytes(sizeof(in6_addr), '\0');
  if (inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) return bytes;
  bytes.resize(sizeof(in_addr));
  return inet_pton(AF_INET, address.c_str(), bytes.data()) == 1 ? bytes : "";
}

std::string FormatAddress(const std::string& bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(bytes.size() == sizeof(in_addr) ? AF_INET : AF_INET6, bytes.data(), text.data(),
            text.size());
  return text.data();
}

// Empty for families other than IPv4 and IPv6.
std::string FormatSocketAddress(const sockaddr* address) {
  if (address == nullptr) return "";
  if (address->sa_family == AF_INET) {
    const auto& in = *reinterpret_cast<const sockaddr_in*>(address);
    return FormatAddress(
        std::string(reinterpret_cast<const char*>(&in.sin_addr), sizeof(in.sin_addr)));
  }
  if (address->sa_family == AF_INET6) {
    const auto& in6 = *reinterpret_cast<const sockaddr_in6*>(address);
    return FormatAddress(
        std::string(reinterpret_cast<const char*>(&in6.sin6_addr), sizeof(in6.sin6_addr)));
  }
  return "";
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

// Of a UDP socket that is connected and never used. Empty: no route.
std::string SourceFor(const addrinfo& target) {
  UniqueFd socket(::socket(target.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid() || connect(socket.get(), target.ai_addr, target.ai_addrlen) != 0) return "";
  sockaddr_storage own = {};
  socklen_t size = sizeof(own);
  char text[NI_MAXHOST];
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&own), &size) != 0 ||
      getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof(text), nullptr, 0,
                  NI_NUMERICHOST) != 0) {
    return "";
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string> NetworkAmong(const std::vector<InterfaceAddress>& interfaces,
                                         const std::string& local_address) {
  const std::string wanted = ParseAddress(local_address);
  if (wanted.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", local_address, "\" is not an IP address"));
  }
  for (const InterfaceAddress& interface : interfaces) {
    const std::string netmask = ParseAddress(interface.netmask);
    if (ParseAddress(interface.address) != wanted || netmask.size() != wanted.size()) continue;
    std::string network(wanted);
    int prefix = 0;
    for (size_t i = 0; i < network.size(); ++i) {
      network[i] = static_cast<char>(network[i] & netmask[i]);
      prefix += __builtin_popcount(static_cast<unsigned char>(netmask[i]));
    }
    return absl::StrCat(FormatAddress(network), "/", prefix);
  }
  return absl::NotFoundError(absl::StrCat("no network interface has the address ", local_address));
}

absl::StatusOr<std::string> NetworkOf(const std::string& local_address) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0)
    return absl::ErrnoToStatus(errno, "cannot list the network interfaces");
  const auto free_list = [](ifaddrs* head) { freeifaddrs(head); };
  const std::unique_ptr<ifaddrs, decltype(free_list)> owner(list, free_list);
  std::vector<InterfaceAddress> interfaces;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    interfaces.push_back(
        {FormatSocketAddress(entry->ifa_addr), FormatSocketAddress(entry->ifa_netmask)});
  }
  return NetworkAmong(interfaces, local_address);
}

absl::StatusOr<std::string> LocalAddressTowards(const std::string& host, uint16_t port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("the frontend's name ", host, " does not resolve: ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  for (const addrinfo* target = found; target != nullptr; target = target->ai_next) {
    if (std::string source = SourceFor(*target); !source.empty()) return source;
  }
  return absl::UnavailableError(absl::StrCat("no route to the frontend ", host));
}

}  // namespace mpilaunch
