// One thread's loop over file descriptors, timers and work that other threads post.
#ifndef MPILAUNCH_COMMON_EVENT_LOOP_H_
#define MPILAUNCH_COMMON_EVENT_LOOP_H_

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/unique_fd.h"

namespace mpilaunch {

class EventLoop {
 public:
  static absl::StatusOr<std::unique_ptr<EventLoop>> Create();

  // Any thread. Tasks run in the order in which they were posted.
  void Post(std::function<void()> task);

  // The rest: only on the thread that is in Run(), or before it.

  // Returns after Stop(), when the posted work is done too.
  void Run();
  void Stop() { stopping_ = true; }

  // `on_ready` runs whenever one of `events` (EPOLLIN, EPOLLOUT) holds or the peer has gone. Must
  // not call Watch(): a descriptor number that is used anew within one round would get the old
  // one's event.
  absl::Status Watch(int fd, uint32_t events, std::function<void()> on_ready);
  // Before `fd` is closed. `on_ready` is not called again.
  void Unwatch(int fd);

  void RunAfter(absl::Duration delay, std::function<void()> task);

 private:
  explicit EventLoop(UniqueFd epoll, UniqueFd wake)
      : epoll_(std::move(epoll)), wake_(std::move(wake)) {}

  void Dispatch();
  bool RunPosted();  // false: there was nothing
  void RunTimers();
  int TimeoutMs() const;  // until the next timer; -1: none

  const UniqueFd epoll_;
  const UniqueFd wake_;  // eventfd
  bool stopping_ = false;
  // Shared, so that a function which unwatches itself is not destroyed while it runs.
  absl::flat_hash_map<int, std::shared_ptr<std::function<void()>>> watched_;
  std::multimap<int64_t, std::function<void()>> timers_;  // monotonic nanoseconds

  absl::Mutex mutex_;
  std::vector<std::function<void()>> posted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_EVENT_LOOP_H_
