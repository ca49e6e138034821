// One child of the init loop: its pipes, their back-pressure, and the order in which its life ends.
#ifndef MPILAUNCH_COMMON_CHILD_PROCESS_H_
#define MPILAUNCH_COMMON_CHILD_PROCESS_H_

#include <sys/types.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/event_loop.h"
#include "common/init_loop.h"
#include "common/spawn.h"

namespace mpilaunch {

// Everything runs on the loop's thread.
class ChildProcess : public std::enable_shared_from_this<ChildProcess> {
 public:
  // `on_finished` runs right before the request's on_exit, once.
  ChildProcess(EventLoop& loop, SpawnRequest request, SpawnedProcess process,
               std::function<void()> on_finished);

  // Begins to read the output.
  void Start();

  pid_t pid() const { return pid_; }
  bool reaped() const { return reaped_; }

  void WriteStdin(std::string bytes);
  void CloseStdin();
  void Resume();
  // To the process group. Nothing once the process is reaped: its pid may be another's.
  void Signal(int signal);
  void Terminate(absl::Duration grace);

  // The process was waited for; what its pipes hold is still delivered.
  void OnReaped(ExitInfo exit);
  // After OnReaped: delivers what the pipes hold now, paused or not, and ends.
  void Finish();

 private:
  struct Output {
    UniqueFd fd;
    bool paused = false;
    std::function<bool(std::string)> on_data;
  };

  void WatchOutput(Output& output);
  void CloseOutput(Output& output);
  void ReadOnce(Output& output);
  void ReadRest(Output& output);
  void OnDrainGraceOver();
  void FinishIfDrained();

  void FlushStdin();
  void DropStdin();
  void ReportStdinTaken(size_t bytes);

  EventLoop& loop_;
  const pid_t pid_;
  SpawnRequest request_;  // of it only what is needed after the start
  std::function<void()> on_finished_;

  Output stdout_;
  Output stderr_;

  UniqueFd stdin_;
  std::deque<std::string> stdin_queue_;
  size_t stdin_offset_ = 0;  // of the first string in the queue
  bool stdin_watched_ = false;
  bool stdin_closing_ = false;

  bool reaped_ = false;
  bool drain_grace_over_ = false;
  bool finished_ = false;
  ExitInfo exit_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_CHILD_PROCESS_H_
