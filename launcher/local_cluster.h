// `mpilaunch --local=W`: a frontend and W workers on this machine, each in namespaces of its own.
// The programs, their flags and what they say to each other are those of production; only what
// starts them differs.
#ifndef MPILAUNCH_LAUNCHER_LOCAL_CLUSTER_H_
#define MPILAUNCH_LAUNCHER_LOCAL_CLUSTER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace mpilaunch {

inline constexpr int kMaxLocalWorkers = 1024;

struct LocalClusterOptions {
  int workers = 0;                // 1 to kMaxLocalWorkers; named w1, w2, ...
  uint32_t slots_per_worker = 0;  // 0: the agent counts them
  std::string binary_dir;         // holds mpilaunchd, mpilaunch-agent and mpilaunch-rsh
  std::string log_level = "warn";
};

class LocalCluster {
 public:
  // Returns when the frontend's socket accepts and every agent's program runs; agents register in
  // their own time. Call it while the process has one thread (before gRPC), from the thread that
  // will outlive the cluster: the cluster dies with it. The errors say which part failed and what
  // it said last: INVALID_ARGUMENT (number of workers), NOT_FOUND (a program), PERMISSION_DENIED
  // (this system forbids namespaces; says what to do), UNAVAILABLE (a part ended or does not get
  // ready). What the parts log after that goes to this process's stderr, each line after the host's
  // name.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Start(const LocalClusterOptions& options);

  // Ends everything; no process, file or mount is left when it returns. Neither when this process
  // is killed, at most some milliseconds later.
  ~LocalCluster();
  LocalCluster(const LocalCluster&) = delete;

  // The frontend's socket, to be opened by this process only: it goes through one of its
  // descriptors, as the folder itself is mounted nowhere that this process sees.
  const std::string& socket_path() const { return socket_path_; }

 private:
  LocalCluster(pid_t init, UniqueFd control) : init_(init), control_(std::move(control)) {}
  absl::Status AwaitStart();

  const pid_t init_;
  UniqueFd control_;  // its end of file tells the cluster that this process is gone
  UniqueFd socket_folder_;
  std::string socket_path_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_LOCAL_CLUSTER_H_
