// Which workers there are, and how many of their slots are taken. Pure: no clock, no I/O, no lock.
#ifndef MPILAUNCH_LAUNCHER_REGISTRY_H_
#define MPILAUNCH_LAUNCHER_REGISTRY_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "job.pb.h"
#include "launcher/placement.h"
#include "membership.pb.h"

namespace mpilaunch {

struct Worker {
  std::string name;
  v1::WorkerState state = v1::READY;
  v1::WorkerFacts facts;
  uint16_t port = 0;
  uint64_t session = 0;  // tells two lives of one name apart
  uint32_t slots_used = 0;
  absl::Time since;  // registered, or lost
};

class Registry {
 public:
  // `own_host_name`: mpirun starts a host of its own name locally, so no worker may have it.
  explicit Registry(std::string own_host_name) : own_host_name_(std::move(own_host_name)) {}

  // Returns the session's number. ALREADY_EXISTS: a READY worker has the name (says both
  // addresses). FAILED_PRECONDITION: the frontend's own host name. INVALID_ARGUMENT: facts out of
  // range.
  absl::StatusOr<uint64_t> Register(const std::string& name, const v1::Registration& registration,
                                    absl::Time now);

  // The session ended. Ignored unless it is the worker's current one (then true). On purpose:
  // forgotten; otherwise the worker stays listed as LOST until it comes back or a newer loss needs
  // its place.
  bool End(const std::string& name, uint64_t session, bool on_purpose, absl::Time now);

  const Worker* Find(const std::string& name) const;  // nullptr: unknown
  std::vector<Worker> All() const;                    // by name, numbers in order (w2 before w10)

  void Take(const std::vector<RankBlock>& blocks);
  void Give(const std::vector<RankBlock>& blocks);

 private:
  struct NaturalLess {
    bool operator()(const std::string& a, const std::string& b) const;
  };

  void ForgetOldestLost();

  const std::string own_host_name_;
  uint64_t last_session_ = 0;
  std::map<std::string, Worker, NaturalLess> workers_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_REGISTRY_H_
