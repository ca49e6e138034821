// A Unix socket that only its owner's processes (and root's) may use.
#ifndef MPILAUNCH_LAUNCHER_UNIX_LISTENER_H_
#define MPILAUNCH_LAUNCHER_UNIX_LISTENER_H_

#include <sys/un.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace mpilaunch {

// /run/mpilaunch/mpilaunchd.sock for root, else /tmp/mpilaunch-UID/mpilaunchd.sock: the same for
// daemon and client.
std::string DefaultSocketPath();
// The rsh agents' socket lies beside the frontend's.
std::string RshSocketPath(const std::string& socket_path);

// INVALID_ARGUMENT: longer than the system allows.
absl::StatusOr<sockaddr_un> UnixSocketAddress(const std::string& path);

class UnixListener {
 public:
  // `on_connection` runs on the listener's thread for each caller whose uid is ours or 0.
  // ALREADY_EXISTS: somebody listens there. A stale socket file is replaced.
  static absl::StatusOr<std::unique_ptr<UnixListener>> Start(
      const std::string& path, std::function<void(UniqueFd)> on_connection);
  ~UnixListener();  // removes the socket file

 private:
  UnixListener(std::string path, UniqueFd socket, UniqueFd stop,
               std::function<void(UniqueFd)> on_connection);
  void Run();

  const std::string path_;
  const UniqueFd socket_;
  const UniqueFd stop_;  // eventfd
  const std::function<void(UniqueFd)> on_connection_;
  std::thread thread_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_UNIX_LISTENER_H_
