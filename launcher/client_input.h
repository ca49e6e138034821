// What reaches a running job from its terminal: stdin within the frontend's credit, and signals.
#ifndef MPILAUNCH_LAUNCHER_CLIENT_INPUT_H_
#define MPILAUNCH_LAUNCHER_CLIENT_INPUT_H_

#include <cstddef>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/unique_fd.h"
#include "job.pb.h"

namespace mpilaunch {

// One thread that waits for stdin, signals and credit at once, so that a signal is never behind
// input that nobody reads.
class ClientInput {
 public:
  // `write` sends one request and returns false when the stream is broken; only the input thread
  // calls it.
  explicit ClientInput(std::function<bool(const v1::RunRequest&)> write);
  ~ClientInput();  // stops and joins

  void AddCredit(size_t bytes);  // any thread

 private:
  void Run();
  bool ForwardStdin();
  bool ForwardSignal();
  size_t Credit();

  const std::function<bool(const v1::RunRequest&)> write_;
  const UniqueFd signals_;
  const UniqueFd wake_;
  absl::Mutex mutex_;
  size_t credit_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool stdin_open_ = true;
  std::thread thread_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_CLIENT_INPUT_H_
