// The frontend's shared state: registry, first-come-first-served slots, and a warm client per
// worker.
#ifndef MPILAUNCH_LAUNCHER_CLUSTER_H_
#define MPILAUNCH_LAUNCHER_CLUSTER_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/executor.h"
#include "common/tls.h"
#include "launcher/registry.h"
#include "launcher/worker_client.h"

namespace mpilaunch {

// What one job holds: its rank blocks and, in the same order, the workers that run them.
struct Allocation {
  std::string job;
  std::vector<RankBlock> blocks;
  std::vector<v1::WorkerFacts> facts;
  WorkerClients workers;
  bool exclusive = false;  // takes every slot of each of its workers: nobody else can come

  uint32_t ranks() const;
};

struct SlotRequest {
  std::string job;
  PlacementRequest placement;  // ranks 0: one per slot registered
  bool here = false;           // on the frontend's own worker, and only there
  // Until when too few slots may be registered; slots that others use are waited for without end.
  absl::Time wait_deadline;
  std::function<void(std::string)> on_wait;  // each time the reason to wait changes; must not block
  std::function<bool()> cancelled;           // asked under the lock after every Wake()
  // One of the job's workers was lost, any time between Acquire and Release. Must not block.
  std::function<void(const std::string& worker)> on_worker_lost;
};

// Thread-safe.
class Cluster {
 public:
  struct Options {
    std::string own_host_name;
    std::string own_worker;   // name of the frontend's own worker; only jobs with --here come there
    std::string mpi_version;  // workers of another release series are left out
    TlsIdentity identity;
    std::function<absl::Time()> clock = absl::Now;
  };
  explicit Cluster(Options options);

  // Of the session's reactor; none of them blocks. See Registry.
  absl::StatusOr<uint64_t> Register(const std::string& name, const v1::Registration& registration);
  void EndSession(const std::string& name, uint64_t session, bool on_purpose);

  // Waits in line for the slots. FAILED_PRECONDITION: larger than what is registered (after the
  // wait); CANCELLED. What it returns must be given back by Release.
  absl::StatusOr<Allocation> Acquire(const SlotRequest& request);
  void Release(const Allocation& allocation);
  void Wake();  // somebody in Acquire has been cancelled

  std::vector<Worker> Workers() const;  // without the frontend's own

 private:
  absl::StatusOr<Allocation> TryPlace(const SlotRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Allocation MakeAllocation(const SlotRequest& request, std::vector<RankBlock> blocks)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string MissingFor(const SlotRequest& request) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const std::string& FirstInLine(bool here) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Worker> Candidates(bool here) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool RunsOurMpi(const Worker& worker) const;
  void Retire(std::shared_ptr<WorkerClient> client);

  const Options options_;
  mutable absl::Mutex mutex_;
  absl::CondVar changed_;
  Registry registry_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<WorkerClient>> clients_ ABSL_GUARDED_BY(mutex_);
  // Jobs in Acquire, first come first served; those with --here are no hindrance to the others.
  struct Waiting {
    std::string job;
    bool here = false;
  };
  std::deque<Waiting> line_ ABSL_GUARDED_BY(mutex_);
  struct Holder {
    std::vector<RankBlock> blocks;
    std::function<void(const std::string&)> on_worker_lost;
  };
  std::map<std::string, Holder> holders_ ABSL_GUARDED_BY(mutex_);  // by job
  Executor undertaker_;  // where clients die: never on a gRPC thread
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_CLUSTER_H_
