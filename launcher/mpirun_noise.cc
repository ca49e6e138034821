#include "launcher/mpirun_noise.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"

namespace mpilaunch {
namespace {

// A line "[HOST:PID" + start + anything + end.
struct Noise {
  absl::string_view start;
  absl::string_view end;
};
constexpr absl::string_view kSetpgidEnd = ") failed in parent with errno=Permission denied(13)\n";
constexpr Noise kNoises[] = {
    {"] plm:rsh: Warning: setpgid(", kSetpgidEnd},
    {"] plm:ssh: Warning: setpgid(", kSetpgidEnd},
    {"] PMIX ERROR: PMIX_ERR_UNPACK_READ_PAST_END_OF_BUFFER in file ",
     "/prrte/src/mca/iof/hnp/iof_hnp_receive.c at line 97\n"},
};
constexpr size_t kLongestPrefix = 300;  // "[HOST:PID"

// Could `line`, its end still to come, become the noise?
bool MayBecomeNoise(absl::string_view line) {
  if (!absl::StartsWith(line, "[")) return false;
  const size_t end = line.find(']');
  if (end == absl::string_view::npos) return line.size() < kLongestPrefix;
  const absl::string_view rest = line.substr(end);
  return std::any_of(std::begin(kNoises), std::end(kNoises), [&](const Noise& noise) {
    return absl::StartsWith(noise.start, rest) ||
           (absl::StartsWith(rest, noise.start) && rest.size() < kLongestPrefix);
  });
}

bool IsNoise(absl::string_view line) {
  const size_t end = line.find(']');
  if (end == absl::string_view::npos || !absl::StartsWith(line, "[")) return false;
  const absl::string_view rest = line.substr(end);
  return std::any_of(std::begin(kNoises), std::end(kNoises), [&](const Noise& noise) {
    return absl::StartsWith(rest, noise.start) && absl::EndsWith(rest, noise.end);
  });
}

}  // namespace

std::string MpirunNoise::Filter(absl::string_view bytes) {
  const std::string pending = std::exchange(held_, "") + std::string(bytes);
  absl::string_view left = pending;
  std::string passed;
  while (!left.empty()) {
    const size_t end = left.find('\n');
    const bool whole = end != absl::string_view::npos;
    const absl::string_view line = left.substr(0, whole ? end + 1 : left.size());
    left.remove_prefix(line.size());
    if (at_line_start_ && !whole && MayBecomeNoise(line)) {
      held_ = std::string(line);
      break;
    }
    if (!at_line_start_ || !whole || !IsNoise(line)) passed.append(line.data(), line.size());
    at_line_start_ = whole;
  }
  return passed;
}

std::string MpirunNoise::Rest() { return std::exchange(held_, ""); }

}  // namespace mpilaunch
