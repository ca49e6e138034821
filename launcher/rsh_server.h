// Where mpirun's remote starts arrive: each mpilaunch-rsh hands over a host and a command, and gets
// back what the agent of that worker makes of it.
#ifndef MPILAUNCH_LAUNCHER_RSH_SERVER_H_
#define MPILAUNCH_LAUNCHER_RSH_SERVER_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "launcher/job_manager.h"
#include "launcher/unix_listener.h"

namespace mpilaunch {

class RshServer {
 public:
  // `jobs` outlives the server.
  static absl::StatusOr<std::unique_ptr<RshServer>> Start(const std::string& socket_path,
                                                          JobManager* jobs);
  // Waits for the connections; the jobs must have ended before, and with them the commands.
  ~RshServer();

 private:
  explicit RshServer(JobManager* jobs) : jobs_(jobs) {}
  // A thread per connection: mpirun has one per worker, all idle but for their start and end.
  void OnConnection(UniqueFd connection);
  bool NoConnections() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return connections_ == 0; }

  JobManager* const jobs_;
  absl::Mutex mutex_;
  int connections_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<UnixListener> listener_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_RSH_SERVER_H_
