#include "launcher/mpirun_noise.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"

namespace mpilaunch {
namespace {

constexpr absl::string_view kNoises[] = {"] plm:rsh: Warning: setpgid(",
                                         "] plm:ssh: Warning: setpgid("};
constexpr absl::string_view kNoiseEnd = ") failed in parent with errno=Permission denied(13)\n";
constexpr size_t kLongestPrefix = 300;  // "[HOST:PID"

// Could `line`, its end still to come, become the noise?
bool MayBecomeNoise(absl::string_view line) {
  if (!absl::StartsWith(line, "[")) return false;
  const size_t end = line.find(']');
  if (end == absl::string_view::npos) return line.size() < kLongestPrefix;
  const absl::string_view rest = line.substr(end);
  return std::any_of(std::begin(kNoises), std::end(kNoises), [&](absl::string_view noise) {
    return absl::StartsWith(noise, rest) ||
           (absl::StartsWith(rest, noise) && rest.size() < kLongestPrefix);
  });
}

bool IsNoise(absl::string_view line) {
  const size_t end = line.find(']');
  if (end == absl::string_view::npos || !absl::StartsWith(line, "[")) return false;
  const absl::string_view rest = line.substr(end);
  return absl::EndsWith(rest, kNoiseEnd) &&
         std::any_of(std::begin(kNoises), std::end(kNoises),
                     [&](absl::string_view noise) { return absl::StartsWith(rest, noise); });
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
