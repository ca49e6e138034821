// One write in flight per gRPC stream, the rest queued: the rule of the callback API, written once.
#ifndef MPILAUNCH_COMMON_STREAM_WRITER_H_
#define MPILAUNCH_COMMON_STREAM_WRITER_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mpilaunch {

// Message needs ByteSizeLong(). `start_write` is the reactor's StartWrite. Thread-safe; whoever
// calls Write or CloseWhenEmpty outside of a reaction must keep the writer alive (a shared pointer
// to its reactor).
template <typename Message>
class StreamWriter {
 public:
  StreamWriter(std::function<void(const Message*)> start_write, size_t max_bytes)
      : start_write_(std::move(start_write)), max_bytes_(max_bytes) {}

  // Queues `message`. False: more than `max_bytes` wait, so pause the source until OnWriteDone
  // returns true. After a failed write or CloseWhenEmpty the message is dropped.
  bool Write(Message message) {
    const Message* next = nullptr;
    bool room = true;
    {
      absl::MutexLock lock(&mutex_);
      if (closed_) return true;
      queued_bytes_ += message.ByteSizeLong();
      queue_.push_back(std::move(message));
      if (queue_.size() == 1) next = &queue_.front();
      full_ = full_ || queued_bytes_ > max_bytes_;
      room = !full_;
    }
    if (next != nullptr) start_write_(next);
    return room;
  }

  // From OnWriteDone. True: the queue fell to half or below, and a source that was paused may go
  // on.
  bool OnWriteDone(bool ok) {
    const Message* next = nullptr;
    std::function<void()> finish;
    bool resume = false;
    {
      absl::MutexLock lock(&mutex_);
      queued_bytes_ -= queue_.front().ByteSizeLong();
      queue_.pop_front();
      if (!ok) Drop();
      if (queue_.empty()) {
        finish = std::exchange(when_empty_, nullptr);
      } else {
        next = &queue_.front();
      }
      resume = full_ && queued_bytes_ <= max_bytes_ / 2;
      if (resume) full_ = false;
    }
    if (next != nullptr) start_write_(next);
    if (finish) finish();
    return resume;
  }

  // Runs `finish` (the reactor's Finish) once, when all that is queued was written; nothing is
  // queued after. Not under the lock: the reactor, and this with it, may be gone as soon as it
  // runs.
  void CloseWhenEmpty(std::function<void()> finish) {
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
      if (!queue_.empty()) {
        when_empty_ = std::move(finish);
        return;
      }
    }
    finish();
  }

 private:
  // The stream is broken; the message in flight has just come back.
  void Drop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    closed_ = true;
    queue_.clear();
    queued_bytes_ = 0;
  }

  const std::function<void(const Message*)> start_write_;
  const size_t max_bytes_;
  absl::Mutex mutex_;
  // The first is in flight. A deque, because the others must not move it.
  std::deque<Message> queue_ ABSL_GUARDED_BY(mutex_);
  size_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool full_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> when_empty_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_STREAM_WRITER_H_
