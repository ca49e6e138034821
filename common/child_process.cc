#include "common/child_process.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

namespace mpilaunch {
namespace {

constexpr size_t kReadBytes = 64 * 1024;

// What one read(2) brought: bytes, or end of file, or nothing for now.
struct ReadResult {
  std::string bytes;
  bool end = false;
};

ReadResult ReadSome(int fd, size_t limit) {
  static thread_local char buffer[kReadBytes];
  const ssize_t count = read(fd, buffer, std::min(limit, kReadBytes));
  if (count > 0) return {.bytes = std::string(buffer, count)};
  return {.bytes = {}, .end = count == 0 || (errno != EAGAIN && errno != EINTR)};
}

}  // namespace

ChildProcess::ChildProcess(EventLoop& loop, SpawnRequest request, SpawnedProcess process,
                           std::function<void()> on_finished)
    : loop_(loop),
      pid_(process.pid),
      request_(std::move(request)),
      on_finished_(std::move(on_finished)),
      stdin_(std::move(process.stdin_fd)) {
  request_.argv.clear();
  request_.environment.clear();
  stdout_.fd = std::move(process.stdout_fd);
  stdout_.on_data = std::move(request_.on_stdout);
  stderr_.fd = std::move(process.stderr_fd);
  stderr_.on_data = std::move(request_.on_stderr);
}

void ChildProcess::Start() {
  WatchOutput(stdout_);
  WatchOutput(stderr_);
}

void ChildProcess::WatchOutput(Output& output) {
  if (!output.fd.valid()) return;
  auto on_ready = [self = shared_from_this(), &output] { self->ReadOnce(output); };
  // Without a watch nobody would notice the end of the output, and the child's exit would wait for
  // ever.
  if (!loop_.Watch(output.fd.get(), EPOLLIN, std::move(on_ready)).ok()) output.fd.reset();
}

void ChildProcess::CloseOutput(Output& output) {
  if (!output.fd.valid()) return;
  loop_.Unwatch(output.fd.get());
  output.fd.reset();
}

// One read per event, so that a child which writes without end starves no other.
void ChildProcess::ReadOnce(Output& output) {
  ReadResult result = ReadSome(output.fd.get(), kReadBytes);
  if (result.end) {
    CloseOutput(output);
    FinishIfDrained();
  } else if (!result.bytes.empty() && output.on_data && !output.on_data(std::move(result.bytes))) {
    output.paused = true;
    loop_.Unwatch(output.fd.get());
  }
}

// What the pipe holds now and no more: a grandchild may write for ever.
void ChildProcess::ReadRest(Output& output) {
  if (!output.fd.valid()) return;
  int held = 0;
  ioctl(output.fd.get(), FIONREAD, &held);
  while (held > 0) {
    ReadResult result = ReadSome(output.fd.get(), held);
    if (result.bytes.empty()) break;
    held -= static_cast<int>(result.bytes.size());
    if (output.on_data) output.on_data(std::move(result.bytes));
  }
  CloseOutput(output);
}

void ChildProcess::Resume() {
  for (Output* output : {&stdout_, &stderr_}) {
    if (!std::exchange(output->paused, false)) continue;
    if (drain_grace_over_) {
      ReadRest(*output);
    } else {
      WatchOutput(*output);
    }
  }
  FinishIfDrained();
}

void ChildProcess::OnReaped(ExitInfo exit) {
  reaped_ = true;
  exit_ = exit;
  FinishIfDrained();
  if (finished_) return;
  loop_.RunAfter(absl::Milliseconds(request_.drain_grace_ms),
                 [self = shared_from_this()] { self->OnDrainGraceOver(); });
}

// What the child itself wrote lies in the pipes since its exit at the latest: nothing of it is lost
// here.
void ChildProcess::OnDrainGraceOver() {
  drain_grace_over_ = true;
  if (!stdout_.paused) ReadRest(stdout_);
  if (!stderr_.paused) ReadRest(stderr_);
  FinishIfDrained();
}

void ChildProcess::FinishIfDrained() {
  if (reaped_ && !stdout_.fd.valid() && !stderr_.fd.valid()) Finish();
}

void ChildProcess::Finish() {
  if (std::exchange(finished_, true)) return;
  ReadRest(stdout_);
  ReadRest(stderr_);
  DropStdin();
  std::exchange(on_finished_, nullptr)();
  if (request_.on_exit) request_.on_exit(exit_);
  // The callbacks keep their owner's objects alive; timers may keep this one for a while.
  request_ = SpawnRequest();
  stdout_.on_data = nullptr;
  stderr_.on_data = nullptr;
}

void ChildProcess::WriteStdin(std::string bytes) {
  if (!stdin_.valid() || stdin_closing_) return ReportStdinTaken(bytes.size());
  if (bytes.empty()) return;
  stdin_queue_.push_back(std::move(bytes));
  if (!stdin_watched_) FlushStdin();
}

void ChildProcess::CloseStdin() {
  stdin_closing_ = true;
  if (stdin_queue_.empty()) DropStdin();
}

void ChildProcess::FlushStdin() {
  while (!stdin_queue_.empty()) {
    const std::string& front = stdin_queue_.front();
    const ssize_t count =
        write(stdin_.get(), front.data() + stdin_offset_, front.size() - stdin_offset_);
    if (count < 0 && errno == EAGAIN) {
      if (stdin_watched_) return;
      stdin_watched_ =
          loop_.Watch(stdin_.get(), EPOLLOUT, [self = shared_from_this()] { self->FlushStdin(); })
              .ok();
      if (stdin_watched_) return;
    }
    // EPIPE: the child closed its stdin, as `head` does; that is no error.
    if (count < 0) return DropStdin();
    stdin_offset_ += count;
    if (stdin_offset_ == front.size()) {
      stdin_queue_.pop_front();
      stdin_offset_ = 0;
    }
    ReportStdinTaken(count);
  }
  if (std::exchange(stdin_watched_, false)) loop_.Unwatch(stdin_.get());
  if (stdin_closing_) DropStdin();
}

void ChildProcess::DropStdin() {
  size_t dropped = 0;
  for (const std::string& bytes : stdin_queue_) dropped += bytes.size();
  dropped -= std::exchange(stdin_offset_, 0);
  stdin_queue_.clear();
  if (std::exchange(stdin_watched_, false)) loop_.Unwatch(stdin_.get());
  stdin_.reset();
  ReportStdinTaken(dropped);
}

void ChildProcess::ReportStdinTaken(size_t bytes) {
  if (bytes > 0 && request_.on_stdin_taken) request_.on_stdin_taken(bytes);
}

void ChildProcess::Signal(int signal) {
  if (!reaped_) kill(-pid_, signal);
}

void ChildProcess::Terminate(absl::Duration grace) {
  if (reaped_) return;
  Signal(SIGTERM);
  loop_.RunAfter(grace, [self = shared_from_this()] { self->Signal(SIGKILL); });
}

}  // namespace mpilaunch
