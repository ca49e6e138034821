#include "launcher/registry.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace mpilaunch {
namespace {

constexpr uint32_t kMaxSlots = 4096;
constexpr size_t kMaxLostListed = 256;

absl::Status Validate(const v1::Registration& registration) {
  const v1::WorkerFacts& facts = registration.facts();
  if (registration.port() == 0 || registration.port() > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("port ", registration.port(), " is none"));
  }
  if (facts.slots() == 0 || facts.slots() > kMaxSlots) {
    return absl::InvalidArgumentError(
        absl::StrCat(facts.slots(), " slots: 1 to ", kMaxSlots, " are possible"));
  }
  if (facts.address().empty()) return absl::InvalidArgumentError("no address reported");
  if (facts.job_root().empty() || facts.job_root()[0] != '/') {
    return absl::InvalidArgumentError("the job root must be an absolute path");
  }
  return absl::OkStatus();
}

}  // namespace

bool Registry::NaturalLess::operator()(const std::string& a, const std::string& b) const {
  const int order = strverscmp(a.c_str(), b.c_str());
  return order != 0 ? order < 0 : a < b;
}

absl::StatusOr<uint64_t> Registry::Register(const std::string& name,
                                            const v1::Registration& registration, absl::Time now) {
  if (absl::Status status = Validate(registration); !status.ok()) return status;
  const bool own =
      name == own_host_name_ || name == own_host_name_.substr(0, own_host_name_.find('.'));
  if (own || name == "localhost" || absl::StartsWith(name, "localhost.")) {
    return absl::FailedPreconditionError(absl::StrCat(
        "worker name ", name, own ? " is the frontend's own host name" : " means every host itself",
        ": mpirun would start its ranks in the frontend; give the worker another one with "
        "--name or MPILAUNCH_NAME"));
  }
  Worker& worker = workers_[name];
  if (worker.session != 0 && worker.state != v1::LOST) {
    return absl::AlreadyExistsError(absl::StrCat(
        "two workers are named ", name, ": the one registered at ", worker.facts.address(), ":",
        worker.port, " is alive, another asks from ", registration.facts().address(), ":",
        registration.port(), "; give one of them another name with --name or MPILAUNCH_NAME"));
  }
  const uint32_t slots_used = worker.slots_used;  // of jobs that are still being ended here
  worker = Worker{.name = name,
                  .state = v1::READY,
                  .facts = registration.facts(),
                  .port = static_cast<uint16_t>(registration.port()),
                  .session = ++last_session_,
                  .slots_used = slots_used,
                  .since = now};
  return last_session_;
}

bool Registry::End(const std::string& name, uint64_t session, bool on_purpose, absl::Time now) {
  auto it = workers_.find(name);
  if (it == workers_.end() || it->second.session != session || it->second.state == v1::LOST)
    return false;
  it->second.state = v1::LOST;
  it->second.since = now;
  if (on_purpose && it->second.slots_used == 0) {
    workers_.erase(it);
  } else {
    ForgetOldestLost();
  }
  return true;
}

void Registry::ForgetOldestLost() {
  size_t lost = 0;
  auto oldest = workers_.end();
  for (auto it = workers_.begin(); it != workers_.end(); ++it) {
    if (it->second.state != v1::LOST) continue;
    ++lost;
    if (it->second.slots_used > 0) continue;
    if (oldest == workers_.end() || it->second.since < oldest->second.since) oldest = it;
  }
  if (lost > kMaxLostListed && oldest != workers_.end()) workers_.erase(oldest);
}

const Worker* Registry::Find(const std::string& name) const {
  auto it = workers_.find(name);
  return it == workers_.end() ? nullptr : &it->second;
}

std::vector<Worker> Registry::All() const {
  std::vector<Worker> all;
  for (const auto& [name, worker] : workers_) all.push_back(worker);
  return all;
}

void Registry::Take(const std::vector<RankBlock>& blocks) {
  for (const RankBlock& block : blocks) {
    if (auto it = workers_.find(block.worker); it != workers_.end())
      it->second.slots_used += block.ranks;
  }
}

void Registry::Give(const std::vector<RankBlock>& blocks) {
  for (const RankBlock& block : blocks) {
    if (auto it = workers_.find(block.worker); it != workers_.end()) {
      it->second.slots_used -= std::min(it->second.slots_used, block.ranks);
    }
  }
}

}  // namespace mpilaunch
