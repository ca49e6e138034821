// `mpilaunch` typed before its cluster is up, as behind `docker compose up`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "support/process_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::HasSubstr;

TEST(Wait, FrontendThatListensLaterIsWaitedFor) {
  ProcessCluster cluster;
  setenv("MPILAUNCH_WAIT", "50", 1);
  const auto command = cluster.Start({"/bin/true", "-n", "3"});
  unsetenv("MPILAUNCH_WAIT");
  ASSERT_TRUE(command->AwaitOutput("waiting for a frontend at "));
  cluster.StartFrontend();
  EXPECT_TRUE(command->AwaitOutput("3 ranks asked for, 0 slots on 0 workers are registered"));
}

TEST(Wait, NoneWithoutBeingAsked) {
  ProcessCluster cluster;
  const CommandResult result = cluster.Mpilaunch({"/bin/true"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("no frontend runs here"));
}

}  // namespace
}  // namespace mpilaunch::testing
