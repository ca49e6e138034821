// One thread that runs what was posted, in order: for work that must not run on a gRPC callback
// thread.
#ifndef MPILAUNCH_COMMON_EXECUTOR_H_
#define MPILAUNCH_COMMON_EXECUTOR_H_

#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mpilaunch {

class Executor {
 public:
  Executor();
  // Runs what is queued, then joins.
  ~Executor();

  void Post(std::function<void()> task);  // any thread

 private:
  void Run();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !tasks_.empty();
  }

  absl::Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_EXECUTOR_H_
