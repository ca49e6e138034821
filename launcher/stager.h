// Brings the program to the workers that lack it and makes the job's directory on each.
#ifndef MPILAUNCH_LAUNCHER_STAGER_H_
#define MPILAUNCH_LAUNCHER_STAGER_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/blob_store.h"
#include "launcher/cluster.h"

namespace mpilaunch {

struct StageJob {
  v1::StageRequest request;  // the same for every worker
  std::string blob_path;     // of the program in the frontend's store
  FileDigest digest;
  std::function<void(std::string)> on_progress;  // for people; only when something is pushed
  std::function<bool()> cancelled;
};

// Blocks. Every worker's complaint is in the error, not only the first one's.
absl::Status StageOnWorkers(const WorkerClients& workers, const StageJob& job);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_STAGER_H_
