#include "launcher/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mpilaunch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<WorkerSlots> kTwo = {{"w1", 4, 0}, {"w2", 4, 0}};

std::vector<RankBlock> MustPlace(const std::vector<WorkerSlots>& workers,
                                 const PlacementRequest& request) {
  absl::StatusOr<std::vector<RankBlock>> blocks = Place(workers, request);
  EXPECT_TRUE(blocks.ok()) << blocks.status();
  return blocks.ok() ? *blocks : std::vector<RankBlock>();
}

TEST(Placement, SpreadGivesEvenBlocks) {
  EXPECT_THAT(MustPlace(kTwo, {.ranks = 8}), ElementsAre(RankBlock{"w1", 4}, RankBlock{"w2", 4}));
  EXPECT_THAT(MustPlace(kTwo, {.ranks = 4}), ElementsAre(RankBlock{"w1", 2}, RankBlock{"w2", 2}));
  EXPECT_THAT(MustPlace(kTwo, {.ranks = 5}), ElementsAre(RankBlock{"w1", 3}, RankBlock{"w2", 2}));
}

TEST(Placement, FewerRanksThanWorkersLeaveSomeOut) {
  EXPECT_THAT(MustPlace(kTwo, {.ranks = 1}), ElementsAre(RankBlock{"w1", 1}));
}

TEST(Placement, SpreadKeepsToFreeSlots) {
  EXPECT_THAT(MustPlace({{"w1", 1, 0}, {"w2", 8, 2}, {"w3", 2, 2}}, {.ranks = 6}),
              ElementsAre(RankBlock{"w1", 1}, RankBlock{"w2", 5}));
}

TEST(Placement, PackFillsOneAfterTheOther) {
  EXPECT_THAT(MustPlace(kTwo, {.ranks = 5, .policy = v1::PACK}),
              ElementsAre(RankBlock{"w1", 4}, RankBlock{"w2", 1}));
  EXPECT_THAT(MustPlace(kTwo, {.ranks = 3, .policy = v1::PACK}), ElementsAre(RankBlock{"w1", 3}));
}

TEST(Placement, OversubscribedIsStillEven) {
  EXPECT_THAT(MustPlace({{"w1", 1, 1}, {"w2", 4, 0}}, {.ranks = 16, .oversubscribe = true}),
              ElementsAre(RankBlock{"w1", 8}, RankBlock{"w2", 8}));
  EXPECT_THAT(MustPlace(kTwo, {.ranks = 11, .policy = v1::PACK, .oversubscribe = true}),
              ElementsAre(RankBlock{"w1", 6}, RankBlock{"w2", 5}));
}

TEST(Placement, LargerThanAllSlotsNamesTheSlotsAndTheFlag) {
  const absl::Status status = Place(kTwo, {.ranks = 9}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("9 ranks"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("8 slots"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("w1 has 4, w2 has 4"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--oversubscribe"));
}

TEST(Placement, BusySlotsAreWorthWaitingFor) {
  EXPECT_TRUE(
      absl::IsResourceExhausted(Place({{"w1", 4, 3}, {"w2", 4, 0}}, {.ranks = 8}).status()));
}

TEST(Placement, NoWorkerOrTooFew) {
  EXPECT_TRUE(absl::IsFailedPrecondition(Place({}, {.ranks = 1, .oversubscribe = true}).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(Place(kTwo, {.ranks = 1, .min_workers = 3}).status()));
}

TEST(Placement, RanksAreNeverLostOrInvented) {
  for (uint32_t ranks = 1; ranks <= 40; ++ranks) {
    for (v1::Placement policy : {v1::SPREAD, v1::PACK}) {
      uint32_t sum = 0;
      for (const RankBlock& block :
           MustPlace({{"w1", 3, 1}, {"w2", 7, 0}, {"w3", 1, 5}},
                     {.ranks = ranks, .policy = policy, .oversubscribe = true})) {
        EXPECT_GT(block.ranks, 0u);
        sum += block.ranks;
      }
      EXPECT_EQ(sum, ranks);
    }
  }
}

}  // namespace
}  // namespace mpilaunch
