#include "launcher/unix_listener.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/private_folder.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

bool SomebodyListens(const sockaddr_un& address) {
  UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

bool PeerIsTrusted(int fd) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  if (peer.uid == geteuid() || peer.uid == 0) return true;
  LogWarning(absl::StrCat("refused a connection of uid ", peer.uid, " to the Unix socket"));
  return false;
}

}  // namespace

absl::StatusOr<sockaddr_un> UnixSocketAddress(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "socket path longer than ", sizeof(address.sun_path) - 1, " characters: ", path));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

std::string DefaultSocketPath() {
  return geteuid() == 0 ? "/run/mpilaunch/mpilaunchd.sock"
                        : absl::StrCat("/tmp/mpilaunch-", geteuid(), "/mpilaunchd.sock");
}

std::string RshSocketPath(const std::string& socket_path) {
  return std::filesystem::path(socket_path).parent_path() / "rsh.sock";
}

absl::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Start(
    const std::string& path, std::function<void(UniqueFd)> on_connection) {
  MPILAUNCH_ASSIGN_OR_RETURN(const sockaddr_un address, UnixSocketAddress(path));
  MPILAUNCH_RETURN_IF_ERROR(MakePrivateFolder(std::filesystem::path(path).parent_path()));
  if (SomebodyListens(address)) {
    return absl::AlreadyExistsError(
        absl::StrCat("another mpilaunchd listens at ", path, " (--socket names another place)"));
  }
  unlink(path.c_str());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      chmod(path.c_str(), 0600) != 0 || listen(socket.get(), SOMAXCONN) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen at ", path));
  }
  UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  return std::unique_ptr<UnixListener>(
      new UnixListener(path, std::move(socket), std::move(stop), std::move(on_connection)));
}

UnixListener::UnixListener(std::string path, UniqueFd socket, UniqueFd stop,
                           std::function<void(UniqueFd)> on_connection)
    : path_(std::move(path)),
      socket_(std::move(socket)),
      stop_(std::move(stop)),
      on_connection_(std::move(on_connection)),
      thread_([this] { Run(); }) {}

UnixListener::~UnixListener() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
  unlink(path_.c_str());
}

void UnixListener::Run() {
  pollfd watched[] = {{stop_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
  for (;;) {
    poll(watched, 2, -1);
    if (watched[0].revents != 0) return;
    UniqueFd connection(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection.valid() && (errno == EMFILE || errno == ENFILE)) {
      LogError("out of file descriptors: raise the limit of open files (ulimit -n) of mpilaunchd");
      poll(watched, 1,
           100);  // the pending connection stays readable: do not spin until one is freed
      continue;
    }
    if (connection.valid() && PeerIsTrusted(connection.get()))
      on_connection_(std::move(connection));
  }
}

}  // namespace mpilaunch
