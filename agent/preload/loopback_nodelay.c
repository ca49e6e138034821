// Preloaded into Open MPI's daemons and ranks: sets TCP_NODELAY on the connection of a rank to its
// PMIx server, which otherwise stalls MPI_Finalize by 40 ms
// (docs/decisions/0002-finalize-stall.md).
//
// It touches no socket of the user's: only IPv4 connections to 127.0.0.0/8 and to a port that a
// PMIX_SERVER_URI* variable names. It has no constructor, allocates nothing, keeps no state, and
// needs no library of its own: what it calls is taken, without a symbol version, from the libc that
// the program runs with, so that one file suits every glibc (and harms no program of another libc).
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char** environ;

// glibc's connect() under its other name; other libcs lack it.
extern int __connect(int fd, const struct sockaddr* address, socklen_t length)
    __attribute__((weak));

static int RealConnect(int fd, const struct sockaddr* address, socklen_t length) {
  if (__connect) return __connect(fd, address, length);
  return (int)syscall(SYS_connect, fd, address, length);
}

// The number after the last ':' of "1234.1;tcp4://127.0.0.1:37039"; 0 when there is none.
static unsigned PortOfUri(const char* uri) {
  unsigned port = 0;
  for (; *uri != '\0'; ++uri) {
    if (*uri == ':') {
      port = 0;
    } else if (*uri >= '0' && *uri <= '9') {
      port = port * 10 + (unsigned)(*uri - '0');
    }
  }
  return port;
}

static int IsPmixServerPort(unsigned port) {
  static const char kName[] = "PMIX_SERVER_URI";
  for (char** entry = environ; entry != NULL && *entry != NULL; ++entry) {
    const char* text = *entry;
    size_t i = 0;
    while (i < sizeof(kName) - 1 && text[i] == kName[i]) ++i;
    if (i < sizeof(kName) - 1) continue;
    while (text[i] != '\0' && text[i] != '=') ++i;
    if (text[i] == '=' && PortOfUri(text + i + 1) == port) return 1;
  }
  return 0;
}

static int IsPmixServer(const struct sockaddr* address, socklen_t length) {
  if (address == NULL || length < sizeof(struct sockaddr_in) || address->sa_family != AF_INET)
    return 0;
  struct sockaddr_in in;
  __builtin_memcpy(&in, address, sizeof(in));
  if ((ntohl(in.sin_addr.s_addr) >> 24) != 127 || in.sin_port == 0) return 0;
  return IsPmixServerPort(ntohs(in.sin_port));
}

__attribute__((visibility("default"))) int connect(int fd, const struct sockaddr* address,
                                                   socklen_t length) {
  const int result = RealConnect(fd, address, length);
  const int error = errno;
  if ((result == 0 || error == EINPROGRESS) && IsPmixServer(address, length)) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    errno = error;
  }
  return result;
}
