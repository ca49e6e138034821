#include "launcher/hostfile.h"

#include <gtest/gtest.h>

namespace mpilaunch {
namespace {

TEST(HostfileTest, NoBlocksNoLines) { EXPECT_EQ(FormatHostfile({}), ""); }

TEST(HostfileTest, OneLinePerBlockInRankOrder) {
  EXPECT_EQ(FormatHostfile({{"w10", 4}, {"w2", 3}, {"rack-1.node_7", 1}}),
            "w10 slots=4\nw2 slots=3\nrack-1.node_7 slots=1\n");
}

TEST(HostfileTest, OversubscribedBlockHasAsManySlotsAsRanks) {
  EXPECT_EQ(FormatHostfile({{"w1", 130}}), "w1 slots=130\n");
}

}  // namespace
}  // namespace mpilaunch
