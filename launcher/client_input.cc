#include "launcher/client_input.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

namespace mpilaunch {
namespace {

constexpr size_t kMaxPiece = 64 * 1024;

int OpenSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) sigaddset(&set, signal);
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

}  // namespace

ClientInput::ClientInput(std::function<bool(const v1::RunRequest&)> write)
    : write_(std::move(write)),
      signals_(OpenSignals()),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { Run(); }) {}

ClientInput::~ClientInput() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_.get(), 1);
  thread_.join();
}

void ClientInput::AddCredit(size_t bytes) {
  {
    absl::MutexLock lock(&mutex_);
    credit_ += bytes;
  }
  eventfd_write(wake_.get(), 1);
}

size_t ClientInput::Credit() {
  absl::MutexLock lock(&mutex_);
  return credit_;
}

void ClientInput::Run() {
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      if (stopping_) return;
    }
    const bool want_stdin = stdin_open_ && Credit() > 0;
    pollfd watched[] = {{wake_.get(), POLLIN, 0},
                        {signals_.get(), POLLIN, 0},
                        {want_stdin ? STDIN_FILENO : -1, POLLIN, 0}};
    if (poll(watched, 3, -1) < 0) continue;
    eventfd_t ignored;
    if (watched[0].revents != 0) eventfd_read(wake_.get(), &ignored);
    if (watched[1].revents != 0 && !ForwardSignal()) return;
    if (watched[2].revents != 0 && !ForwardStdin()) return;
  }
}

bool ClientInput::ForwardSignal() {
  signalfd_siginfo info;
  if (read(signals_.get(), &info, sizeof(info)) != sizeof(info)) return true;
  v1::RunRequest request;
  request.set_signal(static_cast<int32_t>(info.ssi_signo));
  return write_(request);
}

bool ClientInput::ForwardStdin() {
  std::string piece(std::min(Credit(), kMaxPiece), '\0');
  const ssize_t n = read(STDIN_FILENO, piece.data(), piece.size());
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  v1::RunRequest request;
  if (n <= 0) {
    stdin_open_ = false;
    request.set_stdin_eof(true);
  } else {
    piece.resize(static_cast<size_t>(n));
    absl::MutexLock lock(&mutex_);
    credit_ -= piece.size();
    request.set_stdin(std::move(piece));
  }
  return write_(request);
}

}  // namespace mpilaunch
