#include "launcher/shared_memory_warnings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mpilaunch {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

v1::WorkerFacts Facts(const std::string& mpi_version, uint64_t shm_mebibytes) {
  v1::WorkerFacts facts;
  facts.set_mpi_version(mpi_version);
  facts.set_shm_bytes(shm_mebibytes << 20);
  return facts;
}

TEST(SharedMemoryWarnings, DockersDefaultHoldsSixteenRanksOfOpenMpi4) {
  EXPECT_THAT(SharedMemoryWarnings({{"w1", 16}}, {Facts("4.1.4", 64)}), IsEmpty());
  EXPECT_THAT(SharedMemoryWarnings({{"w1", 17}}, {Facts("4.1.4", 64)}),
              ElementsAre(AllOf(StartsWith("w1 has 64 MiB of /dev/shm"),
                                HasSubstr("17 ranks may want 68 MiB (4 MiB each)"),
                                HasSubstr("--shm-size=128m"))));
}

TEST(SharedMemoryWarnings, AndFourOfOpenMpi5) {
  EXPECT_THAT(SharedMemoryWarnings({{"w1", 4}}, {Facts("5.0.7", 64)}), IsEmpty());
  EXPECT_THAT(SharedMemoryWarnings({{"w1", 9}}, {Facts("5.0.7", 64)}),
              ElementsAre(HasSubstr("--shm-size=256m")));
}

TEST(SharedMemoryWarnings, OnlyWorkersWithTooLittleAreNamed) {
  EXPECT_THAT(
      SharedMemoryWarnings({{"w1", 8}, {"w2", 8}}, {Facts("5.0.7", 4096), Facts("5.0.7", 1)}),
      ElementsAre(StartsWith("w2 has 1 MiB")));
}

TEST(SharedMemoryWarnings, RankAloneNeedsNone) {
  EXPECT_THAT(SharedMemoryWarnings({{"w1", 1}}, {Facts("5.0.7", 1)}), IsEmpty());
}

TEST(SharedMemoryWarnings, UnknownSizeIsNoReason) {
  EXPECT_THAT(SharedMemoryWarnings({{"w1", 64}}, {Facts("5.0.7", 0)}), IsEmpty());
}

}  // namespace
}  // namespace mpilaunch
