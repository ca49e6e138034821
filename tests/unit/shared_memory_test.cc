#include "agent/shared_memory.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "support/temporary_folder.h"

namespace mpilaunch {
namespace {

TEST(SharedMemory, SegmentBelongsToItsFamily) {
  EXPECT_TRUE(IsSegmentOfFamily("vader_segment.w1.0.5a9d0001.3", 23197));
  EXPECT_TRUE(IsSegmentOfFamily("vader_segment.host.with.dots.1000.5a9d0002.12", 23197));
  EXPECT_TRUE(IsSegmentOfFamily("vader_segment.w1.0.2960001.0", 662));
  EXPECT_FALSE(IsSegmentOfFamily("vader_segment.w1.0.5a9e0001.3", 23197));
  EXPECT_FALSE(IsSegmentOfFamily("vader_segment.w1.0.15a9d0001.3", 23197));
  for (const char* name : {"", "vader_segment.", "vader_segment.w1", "vader_segment.5a9d0001.3",
                           "sem.x", "5a9d0001"}) {
    EXPECT_FALSE(IsSegmentOfFamily(name, 23197)) << name;
  }
}

TEST(SharedMemory, OpenMpi5sNameSpaceGivesTheFamily) {
  EXPECT_EQ(FamilyOfNamespace("prterun-m5-353"), 0x46f8u);  // seen: job id 0x46f80001
  EXPECT_TRUE(IsSegmentOfFamily("sm_segment.m5.0.46f80001.2", 0x46f8));
}

TEST(SharedMemory, OpenMpi5sSegmentsGo) {
  TemporaryFolder sessions;
  TemporaryFolder shm;
  std::filesystem::create_directories(sessions / "prted.m5.360.0");
  sessions.Write("prted.m5.360.0/pmix.m5.tool.360", "");
  sessions.Write("prted.m5.360.0/pmix.m5.tool.prterun-m5-353@0", "");
  shm.Write("sm_segment.m5.0.46f80001.0", "");
  shm.Write("sm_segment.m5.0.46f90001.0", "");
  RemoveSegments(sessions.path(), shm.path());
  EXPECT_FALSE(std::filesystem::exists(shm / "sm_segment.m5.0.46f80001.0"));
  EXPECT_TRUE(std::filesystem::exists(shm / "sm_segment.m5.0.46f90001.0"));
}

TEST(SharedMemory, OnlyTheJobsOwnSegmentsGo) {
  TemporaryFolder sessions;
  TemporaryFolder shm;
  std::filesystem::create_directories(sessions / "ompi.w1.0/jf.23197/1");
  std::filesystem::create_directories(sessions / "ompi.w1.0/jf.nonsense");
  shm.Write("vader_segment.w1.0.5a9d0001.0", "");
  shm.Write("vader_segment.w1.0.5a9d0001.1", "");
  shm.Write("vader_segment.w1.0.5a9e0001.0", "");
  shm.Write("others", "");
  RemoveSegments(sessions.path(), shm.path());
  EXPECT_FALSE(std::filesystem::exists(shm / "vader_segment.w1.0.5a9d0001.0"));
  EXPECT_FALSE(std::filesystem::exists(shm / "vader_segment.w1.0.5a9d0001.1"));
  EXPECT_TRUE(std::filesystem::exists(shm / "vader_segment.w1.0.5a9e0001.0"));
  EXPECT_TRUE(std::filesystem::exists(shm / "others"));
  RemoveSegments(sessions / "missing", shm / "missing");
}

}  // namespace
}  // namespace mpilaunch
