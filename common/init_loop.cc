#include "common/init_loop.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/child_process.h"
#include "common/event_loop.h"
#include "common/spawn.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

namespace mpilaunch {
namespace {

sigset_t BlockedSignals() {
  sigset_t signals;
  sigfillset(&signals);
  for (int fault : {SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGABRT, SIGTRAP, SIGSYS})
    sigdelset(&signals, fault);
  return signals;
}

ExitInfo ExitInfoOf(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    return {.code = 128 + WTERMSIG(wait_status), .signal = WTERMSIG(wait_status)};
  }
  return {.code = WEXITSTATUS(wait_status)};
}

class InitLoopThread final : public InitLoop {
 public:
  // `alive` is the flag of the one loop that a process may have.
  InitLoopThread(std::unique_ptr<EventLoop> loop, UniqueFd signals,
                 std::function<void(int)> on_signal, std::atomic<bool>& alive)
      : loop_(std::move(loop)),
        signals_(std::move(signals)),
        on_signal_(std::move(on_signal)),
        alive_(alive) {}

  ~InitLoopThread() override {
    if (thread_.joinable()) {  // not when Begin() failed
      loop_->Post([this] { KillAll(); });
      thread_.join();
    }
    alive_ = false;
  }

  absl::Status Begin() {
    MPILAUNCH_RETURN_IF_ERROR(loop_->Watch(signals_.get(), EPOLLIN, [this] { OnSignalsReady(); }));
    // What was orphaned to us before there was a loop has no signal left to tell of it.
    loop_->Post([this] { ReapAll(); });
    thread_ = std::thread([this] { loop_->Run(); });
    return absl::OkStatus();
  }

  void SpawnAsync(SpawnRequest request,
                  std::function<void(absl::StatusOr<pid_t>)> on_started) override {
    loop_->Post([this, request = std::move(request), on_started = std::move(on_started)]() mutable {
      on_started(SpawnOnLoop(std::move(request)));
    });
  }

  void WriteStdin(pid_t pid, std::string bytes) override {
    PostToChild(pid, [bytes = std::move(bytes)](ChildProcess& child) mutable {
      child.WriteStdin(std::move(bytes));
    });
  }
  void CloseStdin(pid_t pid) override {
    PostToChild(pid, [](ChildProcess& child) { child.CloseStdin(); });
  }
  void Signal(pid_t pid, int signal) override {
    PostToChild(pid, [signal](ChildProcess& child) { child.Signal(signal); });
  }
  void Resume(pid_t pid) override {
    PostToChild(pid, [](ChildProcess& child) { child.Resume(); });
  }
  void Terminate(pid_t pid, absl::Duration grace) override {
    PostToChild(pid, [grace](ChildProcess& child) { child.Terminate(grace); });
  }

 private:
  using ChildPointer = std::shared_ptr<ChildProcess>;

  ChildPointer FindChild(pid_t pid) {
    absl::MutexLock lock(&mutex_);
    auto it = children_.find(pid);
    return it == children_.end() ? nullptr : it->second;
  }

  // Who the pid belongs to is decided now, in the caller's thread: when the task runs, the process
  // may be gone and its pid another's.
  template <typename Task>
  void PostToChild(pid_t pid, Task task) {
    ChildPointer child = FindChild(pid);
    if (child == nullptr) return;
    loop_->Post([child = std::move(child), task = std::move(task)]() mutable { task(*child); });
  }

  // Spawn and reap share this thread, so no child can exit before it is in the table.
  absl::StatusOr<pid_t> SpawnOnLoop(SpawnRequest request) {
    if (stopping_) return absl::UnavailableError("shutting down");
    MPILAUNCH_ASSIGN_OR_RETURN(SpawnedProcess process, SpawnProcess(request));
    const pid_t pid = process.pid;
    // Its last owner has been reaped, else the kernel would not have given the pid out again; only
    // its output is still being drained.
    if (ChildPointer last_owner = FindChild(pid)) last_owner->Finish();
    auto child = std::make_shared<ChildProcess>(*loop_, std::move(request), std::move(process),
                                                [this, pid] { Forget(pid); });
    {
      absl::MutexLock lock(&mutex_);
      children_[pid] = child;
    }
    child->Start();
    return pid;
  }

  void Forget(pid_t pid) {
    absl::MutexLock lock(&mutex_);
    children_.erase(pid);
    if (stopping_ && children_.empty()) loop_->Stop();
  }

  void OnSignalsReady() {
    std::array<signalfd_siginfo, 16> signals;
    const ssize_t bytes = read(signals_.get(), signals.data(), sizeof(signals));
    bool reap = false;
    for (size_t i = 0; bytes > 0 && i < bytes / sizeof(signals[0]); ++i) {
      if (signals[i].ssi_signo == SIGCHLD) {
        reap = true;
      } else if (on_signal_) {
        on_signal_(static_cast<int>(signals[i].ssi_signo));
      }
    }
    if (reap) ReapAll();
  }

  // One SIGCHLD may stand for many deaths, also of processes that were orphaned to us.
  void ReapAll() {
    int wait_status = 0;
    for (;;) {
      const pid_t pid = waitpid(-1, &wait_status, WNOHANG);
      if (pid <= 0) return;
      ChildPointer child = FindChild(pid);
      if (child == nullptr || child->reaped()) continue;
      child->OnReaped(ExitInfoOf(wait_status));
      if (stopping_) child->Finish();
    }
  }

  void KillAll() {
    stopping_ = true;
    std::vector<ChildPointer> children;
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [pid, child] : children_) children.push_back(child);
      if (children_.empty()) loop_->Stop();
    }
    for (const ChildPointer& child : children) {
      if (child->reaped()) {
        child->Finish();
      } else {
        child->Signal(SIGKILL);
      }
    }
  }

  const std::unique_ptr<EventLoop> loop_;
  const UniqueFd signals_;
  const std::function<void(int)> on_signal_;
  std::atomic<bool>& alive_;
  bool stopping_ = false;  // the loop's thread only

  absl::Mutex mutex_;
  // Changed on the loop's thread only. A child stays until its on_exit is called.
  absl::flat_hash_map<pid_t, ChildPointer> children_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

absl::StatusOr<UniqueFd> OpenSignals() {
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  if (sigismember(&blocked, SIGCHLD) != 1) {
    return absl::FailedPreconditionError("PrepareProcess() must run before the init loop starts");
  }
  const sigset_t signals = BlockedSignals();
  UniqueFd fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, "signalfd");
  return fd;
}

}  // namespace

namespace {

// Runs before the initialisers of every library: gRPC's opens descriptors, which would become our
// standard input or output where these are closed.
void FillStandardDescriptors() {
  int fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO) fd = open("/dev/null", O_RDWR);
  if (fd > STDERR_FILENO) close(fd);
}
[[gnu::section(".preinit_array"),
  gnu::used]] void (*const fill_standard_descriptors)() = &FillStandardDescriptors;

}  // namespace

void PrepareProcess() {
  // Open MPI's PMIx crashes without, for a uid that /etc/passwd lacks.
  setenv("HOME", "/", /*overwrite=*/0);

  const sigset_t signals = BlockedSignals();
  pthread_sigmask(SIG_SETMASK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // Whoever started us may have ignored it, and then the kernel would not keep a dead child's
  // status.
  signal(SIGCHLD, SIG_DFL);
  if (getpid() != 1) prctl(PR_SET_CHILD_SUBREAPER, 1);
}

void AllowJobControl() {
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTSTP, SIGTTIN, SIGTTOU}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

absl::StatusOr<std::unique_ptr<InitLoop>> InitLoop::Start(std::function<void(int)> on_signal) {
  static std::atomic<bool> alive = false;
  MPILAUNCH_ASSIGN_OR_RETURN(UniqueFd signals, OpenSignals());
  MPILAUNCH_ASSIGN_OR_RETURN(std::unique_ptr<EventLoop> loop, EventLoop::Create());
  if (alive.exchange(true)) {
    return absl::FailedPreconditionError("this process has an init loop already");
  }
  auto thread = std::make_unique<InitLoopThread>(std::move(loop), std::move(signals),
                                                 std::move(on_signal), alive);
  if (absl::Status status = thread->Begin(); !status.ok()) return status;
  return thread;
}

absl::StatusOr<pid_t> InitLoop::Spawn(SpawnRequest request) {
  absl::StatusOr<pid_t> result;
  absl::Notification started;
  SpawnAsync(std::move(request), [&](absl::StatusOr<pid_t> outcome) {
    result = std::move(outcome);
    started.Notify();
  });
  started.WaitForNotification();
  return result;
}

}  // namespace mpilaunch
