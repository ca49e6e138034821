#include "launcher/cluster.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/logging.h"
#include "launcher/mpi_installation.h"

namespace mpilaunch {
namespace {

constexpr size_t kNamed = 16;

std::string DescribeMpi(const Worker& worker) {
  return worker.facts.mpi_version().empty()
             ? absl::StrCat(worker.name, " has no Open MPI")
             : absl::StrCat(worker.name, " has ", worker.facts.mpi_version());
}

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

// Daemons and ranks of one job must be of one release series, and mpirun's is ours.
bool Cluster::RunsOurMpi(const Worker& worker) const {
  return ReleaseSeries(worker.facts.mpi_version()) == ReleaseSeries(options_.mpi_version);
}

// All that a job might use, whatever their state and Open MPI.
std::vector<Worker> Cluster::Candidates(bool here) const {
  std::vector<Worker> candidates = registry_.All();
  candidates.erase(std::remove_if(candidates.begin(), candidates.end(),
                                  [&](const Worker& worker) {
                                    return (worker.name == options_.own_worker) != here;
                                  }),
                   candidates.end());
  return candidates;
}

absl::StatusOr<Allocation> Cluster::TryPlace(const SlotRequest& request) {
  PlacementRequest placement = request.placement;
  std::vector<WorkerSlots> usable;
  std::vector<std::string> left_out;
  uint32_t slots = 0;
  for (const Worker& worker : Candidates(request.here)) {
    if (worker.state != v1::READY) continue;
    if (!RunsOurMpi(worker)) {
      if (left_out.size() < kNamed) left_out.push_back(DescribeMpi(worker));
      continue;
    }
    usable.push_back({worker.name, worker.facts.slots(), worker.slots_used});
    slots += worker.facts.slots();
  }
  if (placement.ranks == 0) placement.ranks = slots;
  // Whoever tries a program in the frontend alone wants to see it run, however few cores it has.
  if (request.here && placement.ranks > slots) placement.oversubscribe = true;
  absl::StatusOr<std::vector<RankBlock>> blocks = Place(usable, placement);
  if (blocks.ok()) return MakeAllocation(request, *std::move(blocks));
  if (left_out.empty() || !absl::IsFailedPrecondition(blocks.status())) return blocks.status();
  return absl::FailedPreconditionError(
      absl::StrCat(blocks.status().message(), "\nnot counted, as this frontend launches Open MPI ",
                   options_.mpi_version, ": ", absl::StrJoin(left_out, ", ")));
}

// Who is waited for, as far as we know them: workers that were here once.
std::string Cluster::MissingFor(const SlotRequest& request) const {
  uint32_t workers = 0;
  uint32_t slots = 0;
  std::vector<std::string> lost;
  for (const Worker& worker : Candidates(request.here)) {
    if (worker.state == v1::LOST) {
      if (lost.size() < kNamed) lost.push_back(worker.name);
      continue;
    }
    if (!RunsOurMpi(worker)) continue;
    ++workers;
    slots += worker.facts.slots();
  }
  return absl::StrCat(request.placement.ranks, " ranks asked for, ", slots, " slots on ", workers,
                      " workers are registered",
                      lost.empty() ? "" : absl::StrCat(", missing: ", absl::StrJoin(lost, ", ")));
}

const std::string& Cluster::FirstInLine(bool here) const {
  return std::find_if(line_.begin(), line_.end(),
                      [here](const Waiting& waiting) { return waiting.here == here; })
      ->job;
}

absl::StatusOr<Allocation> Cluster::Acquire(const SlotRequest& request) {
  absl::MutexLock lock(&mutex_);
  line_.push_back({request.job, request.here});
  std::string last_reason;
  absl::StatusOr<Allocation> result = absl::UnknownError("");
  for (;;) {
    if (request.cancelled()) {
      result = absl::CancelledError("cancelled while queued");
      break;
    }
    std::string reason;
    absl::Time wake = absl::InfiniteFuture();
    if (const std::string& first = FirstInLine(request.here); first != request.job) {
      reason = absl::StrCat("job ", first, " is before it");
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
  line_.erase(std::find_if(line_.begin(), line_.end(),
                           [&](const Waiting& waiting) { return waiting.job == request.job; }));
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
  return Candidates(/*here=*/false);
}

}  // namespace mpilaunch
