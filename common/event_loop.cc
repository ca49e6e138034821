#include "common/event_loop.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <limits>
#include <utility>

namespace mpilaunch {
namespace {

// Monotonic: a corrected wall clock must neither hurry nor delay a kill.
int64_t NowNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return absl::ErrnoToStatus(errno, "epoll_create1");
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  epoll_event event = {.events = EPOLLIN, .data = {.fd = wake.get()}};
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return absl::ErrnoToStatus(errno, "epoll_ctl");
  }
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake)));
}

void EventLoop::Post(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  posted_.push_back(std::move(task));
  if (posted_.size() == 1) eventfd_write(wake_.get(), 1);
}

void EventLoop::Run() {
  while (!stopping_) {
    // Posted work comes after all events of a round: it may open descriptors, see Watch().
    Dispatch();
    RunPosted();
    RunTimers();
  }
  while (RunPosted()) {
  }
}

absl::Status EventLoop::Watch(int fd, uint32_t events, std::function<void()> on_ready) {
  epoll_event event = {.events = events, .data = {.fd = fd}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return absl::ErrnoToStatus(errno, "epoll_ctl");
  watched_[fd] = std::make_shared<std::function<void()>>(std::move(on_ready));
  return absl::OkStatus();
}

void EventLoop::Unwatch(int fd) {
  if (watched_.erase(fd) > 0) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void EventLoop::RunAfter(absl::Duration delay, std::function<void()> task) {
  timers_.emplace(NowNanos() + absl::ToInt64Nanoseconds(delay), std::move(task));
}

void EventLoop::Dispatch() {
  std::array<epoll_event, 64> events;
  const int count = epoll_wait(epoll_.get(), events.data(), events.size(), TimeoutMs());
  for (int i = 0; i < count; ++i) {
    // Gone when an earlier event of this round unwatched it.
    auto it = watched_.find(events[i].data.fd);
    if (it == watched_.end()) continue;
    const std::shared_ptr<std::function<void()>> on_ready = it->second;
    (*on_ready)();
  }
}

bool EventLoop::RunPosted() {
  std::vector<std::function<void()>> tasks;
  {
    absl::MutexLock lock(&mutex_);
    if (posted_.empty()) return false;
    tasks.swap(posted_);
    eventfd_t ignored;
    eventfd_read(wake_.get(), &ignored);
  }
  for (std::function<void()>& task : tasks) std::exchange(task, nullptr)();
  return true;
}

void EventLoop::RunTimers() {
  const int64_t now = NowNanos();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    std::function<void()> task = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    task();
  }
}

int EventLoop::TimeoutMs() const {
  if (timers_.empty()) return -1;
  const int64_t nanos = std::max<int64_t>(timers_.begin()->first - NowNanos(), 0);
  // Rounded up, so that the timer is due when epoll_wait returns.
  return static_cast<int>(
      std::min<int64_t>((nanos + 999'999) / 1'000'000, std::numeric_limits<int>::max()));
}

}  // namespace mpilaunch
