#include "agent/backoff.h"

#include <gtest/gtest.h>

namespace mpilaunch {
namespace {

TEST(Backoff, DoublesUpToTheLongestForEver) {
  Backoff backoff(absl::Milliseconds(100), absl::Seconds(1), [] { return 1.0; });
  for (int expected_ms : {100, 200, 400, 800, 1000, 1000, 1000}) {
    EXPECT_EQ(backoff.Next(), absl::Milliseconds(expected_ms));
  }
  backoff.Reset();
  EXPECT_EQ(backoff.Next(), absl::Milliseconds(100));
}

TEST(Backoff, JitterTakesAtMostHalf) {
  Backoff backoff(absl::Milliseconds(100), absl::Seconds(1), [] { return 0.0; });
  EXPECT_EQ(backoff.Next(), absl::Milliseconds(50));
  EXPECT_EQ(backoff.Next(), absl::Milliseconds(100));
}

}  // namespace
}  // namespace mpilaunch
