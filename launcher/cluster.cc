#include "launcher/cluster.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/logging.h"

namespace mpilaunch {
namespace {

constexpr size_t kLostNamed = 16;

}  // namespace

uint32_t Allocation::ranks() const {
  return std::accumulate(blocks.begin(), blocks.end(), 0u,
                         [](uint32_t sum, const RankBlock& block) { return sum + block.ranks; });
}

Cluster::Cluster(Options options)
    : options_(std::move(options)), registry_(options_.own_host_name) {}

absl::StatusOr<uint64_t> Cluster::Register(const std::string& name,
                                           const v1::Registration& registration) {
  absl::MutexLock lock(&mutex_);
  absl::StatusOr<uint64_t> session = registry_.Register(name, registration, options_.clock());
  if (!session.ok()) return session;
  Retire(std::exchange(clients_[name],
                       std::make_shared<WorkerClient>(name, registration.facts().address(),
                                                      static_cast<uint16_t>(registration.port()),
                                                      options_.identity)));
  changed_.SignalAll();
  LogInfo(absl::StrCat("worker=", name, " state=READY address=", registration.facts().address(),
                       ":", registration.port(), " slots=", registration.facts().slots(),
                       " mpi=", registration.facts().mpi_version()));
  return session;
}

void Cluster::EndSession(const std::string& name, uint64_t session, bool on_purpose) {
  absl::MutexLock lock(&mutex_);
  if (!registry_.End(name, session, on_purpose, options_.clock())) return;
  if (auto it = clients_.find(name); it != clients_.end()) {
    Retire(std::move(it->second));
    clients_.erase(it);
  }
  LogInfo(absl::StrCat("worker=", name, on_purpose ? " left" : " state=LOST"));
  for (const auto& [job, holder] : holders_) {
    for (const RankBlock& block : holder.blocks) {
      if (block.worker == name) holder.on_worker_lost(name);
    }
  }
  changed_.SignalAll();
}

void Cluster::Retire(std::shared_ptr<WorkerClient> client) {
  if (client == nullptr) return;
  undertaker_.Post([client = std::move(client)]() mutable { client.reset(); });
}

Allocation Cluster::MakeAllocation(const SlotRequest& request, std::vector<RankBlock> blocks) {
  Allocation allocation;
  allocation.job = request.job;
  allocation.exclusive = true;
  for (const RankBlock& block : blocks) {
    const Worker& worker = *registry_.Find(block.worker);
    allocation.facts.push_back(worker.facts);
    allocation.workers.push_back(clients_.at(block.worker));
    if (worker.slots_used > 0 || block.ranks < worker.facts.slots()) allocation.exclusive = false;
  }
  registry_.Take(blocks);
  holders_[request.job] = {blocks, request.on_worker_lost};
  allocation.blocks = std::move(blocks);
  return allocation;
}

absl::StatusOr<Allocation> Cluster::TryPlace(const SlotRequest& request) {
  PlacementRequest placement = request.placement;
  const std::vector<WorkerSlots> ready = registry_.Ready();
  if (placement.ranks == 0) {
    for (const WorkerSlots& worker : ready) placement.ranks += worker.total;
  }
  absl::StatusOr<std::vector<RankBlock>> blocks = Place(ready, placement);
  if (!blocks.ok()) return blocks.status();
  return MakeAllocation(request, *std::move(blocks));
}

// Who is waited for, as far as we know them: workers that were here once.
std::string Cluster::MissingFor(const SlotRequest& request) const {
  uint32_t workers = 0;
  uint32_t slots = 0;
  std::vector<std::string> lost;
  for (const Worker& worker : registry_.All()) {
    if (worker.state == v1::LOST) {
      if (lost.size() < kLostNamed) lost.push_back(worker.name);
      continue;
    }
    ++workers;
    slots += worker.facts.slots();
  }
  return absl::StrCat(request.placement.ranks, " ranks asked for, ", slots, " slots on ", workers,
                      " workers are registered",
                      lost.empty() ? "" : absl::StrCat(", missing: ", absl::StrJoin(lost, ", ")));
}

absl::StatusOr<Allocation> Cluster::Acquire(const SlotRequest& request) {
  absl::MutexLock lock(&mutex_);
  line_.push_back(request.job);
  std::string last_reason;
  absl::StatusOr<Allocation> result = absl::UnknownError("");
  for (;;) {
    if (request.cancelled()) {
      result = absl::CancelledError("cancelled while queued");
      break;
    }
    std::string reason;
    absl::Time wake = absl::InfiniteFuture();
    if (line_.front() != request.job) {
      reason = absl::StrCat("job ", line_.front(), " is before it");
    } else {
      result = TryPlace(request);
      const bool too_few = absl::IsFailedPrecondition(result.status());
      if (result.ok() || (too_few && options_.clock() >= request.wait_deadline)) break;
      if (too_few) wake = request.wait_deadline;
      reason = too_few ? MissingFor(request) : std::string(result.status().message());
    }
    if (reason != last_reason) request.on_wait(reason);
    last_reason = std::move(reason);
    changed_.WaitWithDeadline(&mutex_, wake);
  }
  line_.erase(std::find(line_.begin(), line_.end(), request.job));
  changed_.SignalAll();
  return result;
}

void Cluster::Release(const Allocation& allocation) {
  absl::MutexLock lock(&mutex_);
  registry_.Give(allocation.blocks);
  holders_.erase(allocation.job);
  changed_.SignalAll();
}

void Cluster::Wake() {
  absl::MutexLock lock(&mutex_);
  changed_.SignalAll();
}

std::vector<Worker> Cluster::Workers() const {
  absl::MutexLock lock(&mutex_);
  return registry_.All();
}

}  // namespace mpilaunch
