// The frontend's own slots, for jobs with --here: an agent that mpilaunchd starts beside itself.
#ifndef MPILAUNCH_LAUNCHER_OWN_WORKER_H_
#define MPILAUNCH_LAUNCHER_OWN_WORKER_H_

#include <sys/types.h>

#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/init_loop.h"

namespace mpilaunch {

// Thread-safe.
class OwnWorker {
 public:
  struct Options {
    InitLoop* init = nullptr;      // outlives this
    std::string agent;             // path of mpilaunch-agent
    std::string name;              // under which it registers
    std::string frontend;          // host of our own listeners
    std::string join_bundle;       // path
    std::string job_root;          // its own: another agent may run on this machine
    std::function<void()> on_end;  // the agent ended; on the init loop's thread, must not block
  };
  explicit OwnWorker(Options options) : options_(std::move(options)) {}
  ~OwnWorker() { Stop(); }

  // Starts the agent unless it runs; it registers some 100 ms later, as every other. Not from the
  // init loop's thread. NOT_FOUND: there is no agent beside mpilaunchd.
  absl::Status Start();
  bool Running() const;
  // Ends it in order, or by force after a few seconds, and waits for that. It can be started again.
  void Stop();

 private:
  bool Ended() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !running_; }

  const Options options_;
  mutable absl::Mutex mutex_;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  pid_t pid_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_OWN_WORKER_H_
