#include "agent/exec_call.h"

#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/grpc_status.h"

namespace mpilaunch {
namespace {

// What waits for a slow reader before the command is held back.
constexpr size_t kMaxQueuedOutput = 256 * 1024;
// What waits for a command that reads slowly before the caller is held back.
constexpr size_t kMaxQueuedStdin = 1024 * 1024;
constexpr size_t kMaxStdinChunk = 1024 * 1024;
constexpr absl::Duration kTerminateGrace = absl::Seconds(2);

}  // namespace

ExecCall::ExecCall(InitLoop& init, Host& host)
    : init_(init),
      host_(host),
      writer_([this](const v1::ExecEvent* event) { StartWrite(event); }, kMaxQueuedOutput) {}

void ExecCall::Begin() {
  self_ = shared_from_this();
  absl::MutexLock lock(&mutex_);
  ReadOn();
}

void ExecCall::ReadOn() {
  if (reading_ || reads_ended_ || broken_ || state_ == State::kSpawning || state_ == State::kEnded)
    return;
  if (stdin_waiting_ >= kMaxQueuedStdin) return;
  reading_ = true;
  StartRead(&request_);
}

void ExecCall::OnReadDone(bool ok) {
  std::unique_ptr<v1::ExecStart> start;
  absl::Status refused = absl::OkStatus();
  {
    absl::MutexLock lock(&mutex_);
    reading_ = false;
    if (!ok) reads_ended_ = true;
    if (state_ == State::kNew) {
      if (ok && request_.has_start()) {
        state_ = State::kSpawning;
        start.reset(request_.release_start());
      } else {
        state_ = State::kEnded;
        refused = absl::InvalidArgumentError("the first request must be `start`");
      }
    } else if (state_ == State::kRunning) {
      if (!ok) {
        // The caller has nothing more to say, which ends stdin; if it is gone altogether OnCancel
        // tells.
        init_.CloseStdin(pid_);
      } else if (absl::Status status = TakeRequest(); !status.ok()) {
        Break(status);
      } else {
        ReadOn();
      }
    }
  }
  if (start != nullptr) StartCommand(*start);
  if (!refused.ok()) End(refused);
}

absl::Status ExecCall::TakeRequest() {
  switch (request_.kind_case()) {
    case v1::ExecRequest::kStdin:
      if (request_.stdin().size() > kMaxStdinChunk) {
        return absl::InvalidArgumentError(
            absl::StrCat("a piece of stdin is larger than ", kMaxStdinChunk, " bytes"));
      }
      stdin_waiting_ += request_.stdin().size();
      init_.WriteStdin(pid_, std::move(*request_.mutable_stdin()));
      return absl::OkStatus();
    case v1::ExecRequest::kStdinEof:
      init_.CloseStdin(pid_);
      return absl::OkStatus();
    case v1::ExecRequest::kSignal:
      if (request_.signal() < 1 || request_.signal() > SIGRTMAX) {
        return absl::InvalidArgumentError(
            absl::StrCat("no signal has the number ", request_.signal()));
      }
      init_.Signal(pid_, request_.signal());
      return absl::OkStatus();
    case v1::ExecRequest::kStart:
      return absl::InvalidArgumentError("`start` came twice");
    case v1::ExecRequest::KIND_NOT_SET:
      return absl::InvalidArgumentError("an empty request");
  }
  return absl::InvalidArgumentError("an unknown request");
}

// Runs in a reaction, alone: nothing is read and nothing runs yet.
void ExecCall::StartCommand(const v1::ExecStart& start) {
  job_ = start.job();
  absl::StatusOr<SpawnRequest> request = host_.Admit(job_, shared_from_this());
  if (!request.ok()) {
    {
      absl::MutexLock lock(&mutex_);
      state_ = State::kEnded;
    }
    return End(request.status());
  }
  request->argv = {"/bin/sh", "-c", start.command()};
  request->stdin_mode = Stdio::kPipe;
  request->on_stdout = [self = shared_from_this()](std::string bytes) {
    v1::ExecEvent event;
    event.set_stdout(std::move(bytes));
    return self->Send(std::move(event));
  };
  request->on_stderr = [self = shared_from_this()](std::string bytes) {
    v1::ExecEvent event;
    event.set_stderr(std::move(bytes));
    return self->Send(std::move(event));
  };
  request->on_stdin_taken = [self = shared_from_this()](size_t bytes) {
    self->OnStdinTaken(bytes);
  };
  request->on_exit = [self = shared_from_this()](ExitInfo exit) { self->OnExit(exit); };
  init_.SpawnAsync(*std::move(request), [self = shared_from_this()](absl::StatusOr<pid_t> pid) {
    self->OnStarted(std::move(pid));
  });
}

void ExecCall::OnStarted(absl::StatusOr<pid_t> pid) {
  if (!pid.ok()) {
    {
      absl::MutexLock lock(&mutex_);
      state_ = State::kEnded;
    }
    host_.Release(job_, shared_from_this());
    return End(pid.status());
  }
  v1::ExecEvent event;
  event.set_started_pid(*pid);
  Send(std::move(event));
  absl::MutexLock lock(&mutex_);
  state_ = State::kRunning;
  pid_ = *pid;
  if (early_signal_ != 0) init_.Signal(pid_, early_signal_);
  if (broken_) init_.Terminate(pid_, kTerminateGrace);
  ReadOn();
}

void ExecCall::OnStdinTaken(size_t bytes) {
  absl::MutexLock lock(&mutex_);
  stdin_waiting_ -= bytes;
  ReadOn();
}

void ExecCall::OnExit(ExitInfo exit) {
  absl::Status failure;
  {
    absl::MutexLock lock(&mutex_);
    state_ = State::kEnded;
    failure = failure_;
  }
  v1::ExecEvent event;
  event.mutable_exit()->set_code(exit.code);
  event.mutable_exit()->set_signal(exit.signal);
  Send(std::move(event));
  host_.Release(job_, shared_from_this());
  End(failure);
}

void ExecCall::End(const absl::Status& status) {
  writer_.CloseWhenEmpty([this, status] { Finish(ToGrpc(status)); });
}

void ExecCall::OnWriteDone(bool ok) {
  if (!writer_.OnWriteDone(ok)) return;
  absl::MutexLock lock(&mutex_);
  if (state_ == State::kRunning) init_.Resume(pid_);
}

void ExecCall::OnCancel() {
  absl::MutexLock lock(&mutex_);
  Break(absl::CancelledError("the caller is gone"));
}

void ExecCall::Break(const absl::Status& why) {
  if (broken_ || state_ == State::kEnded) return;
  broken_ = true;
  failure_ = why;
  if (state_ == State::kRunning) init_.Terminate(pid_, kTerminateGrace);
}

void ExecCall::Signal(int signal) {
  absl::MutexLock lock(&mutex_);
  if (state_ == State::kRunning) init_.Signal(pid_, signal);
  if (state_ == State::kSpawning) early_signal_ = signal;
}

// Not self_.reset(): it may be the last share, and destroys what it is a member of.
void ExecCall::OnDone() { std::shared_ptr<ExecCall> last = std::move(self_); }

}  // namespace mpilaunch
