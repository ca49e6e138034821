// Brings a job's files to the workers that lack them and makes the job's directory on each.
#ifndef MPILAUNCH_LAUNCHER_STAGER_H_
#define MPILAUNCH_LAUNCHER_STAGER_H_

#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "common/blob_store.h"
#include "launcher/cluster.h"

namespace mpilaunch {

// Of the frontend's store, by SHA-256.
using HeldBlobs = std::map<std::string, HeldBlob>;

struct StageJob {
  v1::StageRequest request;                      // the same for every worker
  HeldBlobs blobs;                               // of all its files
  std::function<void(std::string)> on_progress;  // for people; only when much is pushed
  std::function<bool()> cancelled;
};

// Blocks. Every worker's complaint is in the error, not only the first one's. NOT_FOUND:
// request.workers_program is not there. RESOURCE_EXHAUSTED: a worker has dropped the job's files,
// time and again, for those of others.
absl::Status StageOnWorkers(const WorkerClients& workers, const StageJob& job);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_STAGER_H_
