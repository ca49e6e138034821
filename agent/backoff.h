// How long to wait before the next attempt: doubling, jittered, for ever. Pure.
#ifndef MPILAUNCH_AGENT_BACKOFF_H_
#define MPILAUNCH_AGENT_BACKOFF_H_

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/time/time.h"

namespace mpilaunch {

class Backoff {
 public:
  // `uniform` gives numbers in [0, 1). Waits lie between half of the step and the step, so that the
  // workers of a restarted frontend do not all come at once.
  Backoff(absl::Duration first, absl::Duration longest, std::function<double()> uniform)
      : first_(first), longest_(longest), step_(first), uniform_(std::move(uniform)) {}

  absl::Duration Next() {
    const absl::Duration wait = step_ * (0.5 + 0.5 * uniform_());
    step_ = std::min(step_ * 2, longest_);
    return wait;
  }
  void Reset() { step_ = first_; }

 private:
  const absl::Duration first_;
  const absl::Duration longest_;
  absl::Duration step_;
  const std::function<double()> uniform_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_BACKOFF_H_
