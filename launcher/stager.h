// Brings a job's files to the workers that lack them and makes the job's directory on each.
#ifndef MPILAUNCH_LAUNCHER_STAGER_H_
#define MPILAUNCH_LAUNCHER_STAGER_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/blob_store.h"
#include "launcher/cluster.h"

namespace mpilaunch {

struct StageJob {
  v1::StageRequest request;                      // the same for every worker
  std::function<void(std::string)> on_progress;  // for people; only when much is pushed
  std::function<bool()> cancelled;
};

// Blocks. `blobs` is the frontend's store, which has the files. Every worker's complaint is in the
// error, not only the first one's. NOT_FOUND: request.workers_program is not there.
absl::Status StageOnWorkers(const WorkerClients& workers, BlobStore& blobs, const StageJob& job);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_STAGER_H_
