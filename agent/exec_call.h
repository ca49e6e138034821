// One Process.Exec: a command of a job, its stdio on the stream, and who may end it when.
#ifndef MPILAUNCH_AGENT_EXEC_CALL_H_
#define MPILAUNCH_AGENT_EXEC_CALL_H_

#include <grpcpp/support/server_callback.h>
#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/init_loop.h"
#include "common/stream_writer.h"
#include "process.grpc.pb.h"

namespace mpilaunch {

// Two parties act here at once, gRPC's callback threads and the init loop's thread. The rules:
// - Each of them holds the call: gRPC from Begin() to OnDone(), the loop through the request's
// callbacks
//   until on_exit. So neither finds it destroyed.
// - From the spawn on only on_exit ends the stream, also when it is broken or cancelled: that kills
// the
//   command, its exit follows, and writes in between are dropped. So a command never outlives its
//   call.
// - The exit is the last event and Finish comes after it was written.
class ExecCall final : public grpc::ServerBidiReactor<v1::ExecRequest, v1::ExecEvent>,
                       public std::enable_shared_from_this<ExecCall> {
 public:
  // Outlives all calls.
  class Host {
   public:
    virtual ~Host() = default;
    // Makes `call` one of the job's and returns what to spawn (argv[2] and callbacks are the call's
    // to fill in); or why the job takes no command here. Thread-safe.
    virtual absl::StatusOr<SpawnRequest> Admit(const std::string& job,
                                               std::shared_ptr<ExecCall> call) = 0;
    // The admitted call runs nothing any more.
    virtual void Release(const std::string& job, const std::shared_ptr<ExecCall>& call) = 0;
  };

  ExecCall(InitLoop& init, Host& host);

  void Begin();  // once, when a shared_ptr holds it
  // To the command's process group, also one that is only about to start. Any thread.
  void Signal(int signal);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  enum class State { kNew, kSpawning, kRunning, kEnded };

  void StartCommand(const v1::ExecStart& start);
  void OnStarted(absl::StatusOr<pid_t> pid);
  void OnExit(ExitInfo exit);
  void OnStdinTaken(size_t bytes);
  absl::Status TakeRequest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadOn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Break(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Send(v1::ExecEvent event) { return writer_.Write(std::move(event)); }

  InitLoop& init_;
  Host& host_;
  StreamWriter<v1::ExecEvent> writer_;
  v1::ExecRequest request_;         // the read in flight
  std::string job_;                 // set before the spawn
  std::shared_ptr<ExecCall> self_;  // gRPC's share

  absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kNew;
  pid_t pid_ ABSL_GUARDED_BY(mutex_) = 0;             // while kRunning
  int early_signal_ ABSL_GUARDED_BY(mutex_) = 0;      // came while kSpawning
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;       // cancelled, or the caller broke the protocol
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);      // what the call ends with
  size_t stdin_waiting_ ABSL_GUARDED_BY(mutex_) = 0;  // bytes that the command has not taken yet
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;      // a StartRead is in flight
  bool reads_ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_EXEC_CALL_H_
