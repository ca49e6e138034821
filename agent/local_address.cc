#include "agent/local_address.h"

#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/unique_fd.h"

namespace mpilaunch {
namespace {

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
      getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) {
    return "";
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string> LocalAddressTowards(const std::string& host, uint16_t port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat("the frontend's name ", host, " does not resolve: ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  for (const addrinfo* target = found; target != nullptr; target = target->ai_next) {
    if (std::string source = SourceFor(*target); !source.empty()) return source;
  }
  return absl::UnavailableError(absl::StrCat("no route to the frontend ", host));
}

}  // namespace mpilaunch
