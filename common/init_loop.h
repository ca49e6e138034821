// The one thread that owns processes: spawn, reap, signals and the children's stdio. Works as PID 1
// and as a plain child (then as a child subreaper, so that tests run what production runs).
#ifndef MPILAUNCH_COMMON_INIT_LOOP_H_
#define MPILAUNCH_COMMON_INIT_LOOP_H_

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace mpilaunch {

// First line of main, while there is one thread: blocks every signal but
// those that the kernel raises for a fault, ignores SIGPIPE, becomes child subreaper, sets HOME
// when it is not. Threads that start later (gRPC's too) inherit the mask, so every signal waits for
// the init loop and interrupts nobody.
void PrepareProcess();

// After PrepareProcess, for programs that people run from a terminal: Ctrl-Z and reading the
// terminal from the background stop the process, as they do with any other.
void AllowJobControl();

struct ExitInfo {
  int code = 0;    // exit code, or 128 + signal
  int signal = 0;  // 0 when the process exited by itself
};

enum class Stdio {
  kInherit,
  kNull,  // /dev/null
  kPipe,
};

struct SpawnRequest {
  std::vector<std::string>
      argv;  // argv[0] is looked up in PATH of `environment` unless it has a '/'
  std::vector<std::string> environment;  // "NAME=value", complete
  std::string working_directory;         // empty: ours
  Stdio stdin_mode = Stdio::kNull;
  // The child's reads return PIPE_BUF (4096) bytes at most, however large its buffer and however
  // much is there.
  bool stdin_in_packets = false;
  Stdio output_mode = Stdio::kPipe;  // stdout and stderr

  // All of them run on the init loop's thread and must not block. None runs after on_exit.
  // Output comes in pieces of at most 64 KiB. Return false to pause that stream (back-pressure);
  // Resume() reads on. What the pipe still holds when its child is long gone may come in spite of a
  // pause.
  std::function<bool(std::string)> on_stdout;
  std::function<bool(std::string)> on_stderr;
  // `bytes` of what WriteStdin queued were taken by the child (or dropped: it closed its stdin).
  std::function<void(std::size_t bytes)> on_stdin_taken;
  // Once, last: after the process is reaped and both pipes are at end of file. A pipe that a
  // surviving grandchild keeps open is given up `drain_grace_ms` after the exit; what it held then
  // is delivered.
  std::function<void(ExitInfo)> on_exit;
  int drain_grace_ms = 200;
};

// One per process at a time: it waits for every child there is.
class InitLoop {
 public:
  // Starts the thread. SIGTERM, SIGINT and any signal that PrepareProcess blocked arrive at
  // `on_signal` on the loop's thread (SIGCHLD excepted); it must not block.
  // FAILED_PRECONDITION: PrepareProcess did not run first, or there is a loop already.
  static absl::StatusOr<std::unique_ptr<InitLoop>> Start(std::function<void(int)> on_signal);

  // Kills every child still alive, reaps, calls the outstanding on_exit, joins. Not from a
  // callback, nor while another thread is in a call.
  virtual ~InitLoop() = default;

  // Any thread. `on_started` runs on the loop's thread before any other callback of the request,
  // with the pid of a child in its own session (pid = process group), with default signal handling,
  // an empty mask and no descriptor but 0-2; or with why there is none, and then no other callback
  // runs:
  //   NOT_FOUND            no such program, or its interpreter is missing
  //   PERMISSION_DENIED    it is not executable
  //   FAILED_PRECONDITION  not a program for this machine; or the working directory is unusable
  //   UNAVAILABLE, RESOURCE_EXHAUSTED ...  what else the system says, as no more processes
  virtual void SpawnAsync(SpawnRequest request,
                          std::function<void(absl::StatusOr<pid_t>)> on_started) = 0;

  // SpawnAsync for any thread but the loop's: waits for the exec, about 1 ms. The request's
  // callbacks may run, on_exit included, before this has returned.
  absl::StatusOr<pid_t> Spawn(SpawnRequest request);

  // Any thread; each returns at once. A pid is its spawner's until on_exit is called; unknown pids
  // are ignored, and a process that has been reaped is never signalled, nor who got its pid after
  // it.
  virtual void WriteStdin(pid_t pid, std::string bytes) = 0;
  virtual void CloseStdin(pid_t pid) = 0;          // after what was written is taken
  virtual void Signal(pid_t pid, int signal) = 0;  // to the process group
  virtual void Resume(pid_t pid) = 0;              // reads stdout and stderr again
  // SIGTERM to the process group, and SIGKILL after `grace` when the process is still alive.
  virtual void Terminate(pid_t pid, absl::Duration grace) = 0;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_INIT_LOOP_H_
