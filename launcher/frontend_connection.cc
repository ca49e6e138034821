#include "launcher/frontend_connection.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"
#include "launcher/unix_listener.h"

namespace mpilaunch {

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectToFrontend(const std::string& socket_path) {
  MPILAUNCH_ASSIGN_OR_RETURN(const sockaddr_un address, UnixSocketAddress(socket_path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == EACCES || errno == EPERM) {
      return absl::PermissionDeniedError(
          absl::StrCat("the frontend's socket ", socket_path,
                       " belongs to another user: run mpilaunch as that user"));
    }
    if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR) {
      return absl::NotFoundError(absl::StrCat("no frontend runs here (nobody listens at ",
                                              socket_path,
                                              "). Start one with: mpilaunchd &\nor run on this "
                                              "machine alone: mpilaunch --local=2 PROGRAM"));
    }
    return absl::ErrnoToStatus(errno, absl::StrCat("connecting to the frontend at ", socket_path));
  }
  fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  return grpc::CreateInsecureChannelFromFd("mpilaunchd", socket.release());
}

}  // namespace mpilaunch
