#include "launcher/rsh/rsh_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>

#include "common/unique_fd.h"

namespace mpilaunch {
namespace {

// No more is read from the socket while this much waits for stdout or stderr.
constexpr size_t kMaxWaitingBytes = 4 * kMaxRshDataBytes;

RshExit Failure(std::string reason) { return {kRshFailed, std::move(reason)}; }

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

// Empty when connected.
std::string Connect(const std::string& path, UniqueFd* connection) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return "the socket's path is too long: " + path;
  std::memcpy(address.sun_path, path.data(), path.size());
  connection->reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!connection->valid()) return std::string("no socket: ") + std::strerror(errno);
  int result;
  do {
    result = connect(connection->get(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return "";
  return "mpilaunchd can not be reached at " + path + ": " + std::strerror(errno);
}

// Bytes on their way to stdout or stderr. Once the reader is gone they are dropped, as the
// command's exit code still matters.
class Sink {
 public:
  explicit Sink(int fd) : fd_(fd) {}

  void Add(std::string_view bytes) {
    if (!open_) return;
    waiting_.erase(0, written_);
    written_ = 0;
    waiting_.append(bytes);
  }
  size_t Waiting() const { return waiting_.size() - written_; }
  bool HasRoom() const { return Waiting() < kMaxWaitingBytes; }
  bool Empty() const { return Waiting() == 0; }
  pollfd Poll() const { return {Empty() ? -1 : fd_, POLLOUT, 0}; }

  void OnPoll(short events) {
    if (events == 0) return;
    // A pipe that is ready takes PIPE_BUF bytes without blocking, not more.
    const ssize_t size =
        write(fd_, waiting_.data() + written_, std::min<size_t>(Waiting(), PIPE_BUF));
    if (size >= 0) {
      written_ += static_cast<size_t>(size);
    } else if (!WouldBlock()) {
      open_ = false;
      waiting_.clear();
      written_ = 0;
    }
  }

 private:
  const int fd_;
  bool open_ = true;
  std::string waiting_;
  size_t written_ = 0;  // of waiting_
};

class Relay {
 public:
  Relay(int socket_fd, std::string first_bytes)
      : socket_(socket_fd), to_daemon_(std::move(first_bytes)) {}

  RshExit Run() {
    while (!exit_ || !stdout_.Empty() || !stderr_.Empty()) {
      pollfd fds[] = {PollStdin(), PollSocket(), stdout_.Poll(), stderr_.Poll()};
      if (poll(fds, 4, -1) < 0) {
        if (errno == EINTR) continue;
        return Failure(std::string("poll: ") + std::strerror(errno));
      }
      if (fds[0].revents != 0) ReadStdin();
      if (fds[1].revents & POLLOUT) WriteSocket();
      if (fds[1].revents & ~POLLOUT) ReadSocket();
      stdout_.OnPoll(fds[2].revents);
      stderr_.OnPoll(fds[3].revents);
    }
    return *exit_;
  }

 private:
  // One piece at a time: what the daemon has not taken yet holds stdin back.
  pollfd PollStdin() const {
    return {stdin_open_ && to_daemon_.empty() && !exit_ ? STDIN_FILENO : -1, POLLIN, 0};
  }
  pollfd PollSocket() const {
    const bool want_more = stdout_.HasRoom() && stderr_.HasRoom();
    const short events =
        static_cast<short>((want_more ? POLLIN : 0) | (to_daemon_.empty() ? 0 : POLLOUT));
    return {exit_ || events == 0 ? -1 : socket_, events, 0};
  }

  void ReadStdin() {
    char bytes[kMaxRshDataBytes];
    const ssize_t size = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (size > 0) {
      to_daemon_ = EncodeRshData(RshFrameType::kStdin, {bytes, static_cast<size_t>(size)});
    } else if (size == 0 || !WouldBlock()) {  // a closed or unreadable stdin counts as its end
      stdin_open_ = false;
      to_daemon_ = EncodeRshStdinEnd();
    }
  }

  void WriteSocket() {
    const ssize_t sent =
        send(socket_, to_daemon_.data(), to_daemon_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      to_daemon_.erase(0, static_cast<size_t>(sent));
    } else if (!WouldBlock()) {
      // The daemon takes no more; what it sent before may still hold the exit code.
      stdin_open_ = false;
      to_daemon_.clear();
    }
  }

  void ReadSocket() {
    char bytes[kMaxRshDataBytes];
    const ssize_t size = recv(socket_, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (size > 0) {
      decoder_.Append({bytes, static_cast<size_t>(size)});
      TakeFrames();
    } else if (size == 0) {
      exit_ = Failure("the connection to mpilaunchd was lost");
    } else if (!WouldBlock()) {
      exit_ =
          Failure(std::string("the connection to mpilaunchd was lost: ") + std::strerror(errno));
    }
  }

  void TakeFrames() {
    RshFrame frame;
    while (!exit_) {
      switch (decoder_.Next(&frame)) {
        case RshFrameDecoder::Result::kNeedMore:
          return;
        case RshFrameDecoder::Result::kCorrupt:
          exit_ = Failure("protocol error: " + decoder_.error());
          return;
        case RshFrameDecoder::Result::kFrame:
          TakeFrame(frame);
      }
    }
  }

  void TakeFrame(const RshFrame& frame) {
    if (frame.type == RshFrameType::kStdout) {
      stdout_.Add(frame.payload);
    } else if (frame.type == RshFrameType::kStderr) {
      stderr_.Add(frame.payload);
    } else if (frame.type == RshFrameType::kExit) {
      RshExit exit;
      std::string error;
      exit_ =
          DecodeRshExit(frame.payload, &exit, &error) ? exit : Failure("protocol error: " + error);
    } else {
      exit_ = Failure("protocol error: mpilaunchd sent a frame that is for it to receive");
    }
  }

  const int socket_;
  std::string to_daemon_;
  bool stdin_open_ = true;
  RshFrameDecoder decoder_;
  Sink stdout_{STDOUT_FILENO};
  Sink stderr_{STDERR_FILENO};
  std::optional<RshExit> exit_;
};

}  // namespace

RshExit RunRshClient(const RshRequest& request, const std::string& socket_path) {
  UniqueFd connection;
  if (std::string error = Connect(socket_path, &connection); !error.empty()) {
    return Failure(std::move(error));
  }
  return Relay(connection.get(), EncodeRshRequest(request)).Run();
}

}  // namespace mpilaunch
