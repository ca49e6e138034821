#include "agent/host_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/utsname.h>

#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "common/init_loop.h"
#include "common/program_path.h"

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(OpenMpiVersionTest, OfMpirun4) {
  EXPECT_EQ(
      ParseOpenMpiVersion("mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/\n"),
      "4.1.4");
}

TEST(OpenMpiVersionTest, OfMpirun5) {
  EXPECT_EQ(
      ParseOpenMpiVersion("mpirun (Open MPI) 5.0.7\n\nReport bugs to https://www.open-mpi.org/\n"),
      "5.0.7");
}

TEST(OpenMpiVersionTest, OfOmpiInfo) {
  EXPECT_EQ(ParseOpenMpiVersion("Open MPI v4.1.4\n\nhttp://www"), "4.1.4");
}

TEST(OpenMpiVersionTest, ReleaseCandidates) {
  EXPECT_EQ(ParseOpenMpiVersion("mpirun (Open MPI) 5.1.0rc2\n"), "5.1.0rc2");
}

TEST(OpenMpiVersionTest, OtherMpisAndNoiseHaveNone) {
  EXPECT_EQ(ParseOpenMpiVersion(""), "");
  EXPECT_EQ(ParseOpenMpiVersion("HYDRA build details:\n    Version: 4.0.2\n"), "");
  EXPECT_EQ(ParseOpenMpiVersion("Intel(R) MPI Library for Linux* OS, Version 2021.8\n"), "");
  EXPECT_EQ(ParseOpenMpiVersion("Open MPI"), "");
  EXPECT_EQ(ParseOpenMpiVersion("Open MPI vfour\n4.1.4"), "");
}

TEST(CmaTest, SeccompRefuses) { EXPECT_FALSE(CmaWorks({false, "0", true})); }
TEST(CmaTest, WithoutYama) { EXPECT_TRUE(CmaWorks({true, "", false})); }
TEST(CmaTest, ClassicScope) { EXPECT_TRUE(CmaWorks({true, "0", false})); }
TEST(CmaTest, RestrictedScopeIsLiftedByOpenMpiItself) { EXPECT_TRUE(CmaWorks({true, "1", false})); }
TEST(CmaTest, AdminScopeWantsTheCapability) {
  EXPECT_FALSE(CmaWorks({true, "2", false}));
  EXPECT_TRUE(CmaWorks({true, "2", true}));
}
TEST(CmaTest, ScopeThreeIsNobody) { EXPECT_FALSE(CmaWorks({true, "3", true})); }
TEST(CmaTest, GarbageIsNo) { EXPECT_FALSE(CmaWorks({true, "garbage", true})); }

TEST(DevicesTest, APlainContainerHasNone) {
  const DeviceFacts facts =
      ClassifyDevices({"/dev/null", "/dev/shm", "/dev/dri/card0", "/dev/nvidiactl",
                       "/dev/infiniband/rdma_cm", "/dev/infiniband", "/dev/nvidia"});
  EXPECT_FALSE(facts.fabric);
  EXPECT_FALSE(facts.pci_locality);
}

class FabricDeviceTest : public testing::TestWithParam<const char*> {};
TEST_P(FabricDeviceTest, IsAFabricAndHasALocality) {
  const DeviceFacts facts = ClassifyDevices({"/dev/null", GetParam()});
  EXPECT_TRUE(facts.fabric);
  EXPECT_TRUE(facts.pci_locality);
}
INSTANTIATE_TEST_SUITE_P(All, FabricDeviceTest,
                         testing::Values("/dev/infiniband/uverbs0", "/dev/hfi1_0", "/dev/cxi12"));

class GpuDeviceTest : public testing::TestWithParam<const char*> {};
TEST_P(GpuDeviceTest, HasALocalityButIsNoFabric) {
  const DeviceFacts facts = ClassifyDevices({"/dev/null", GetParam()});
  EXPECT_FALSE(facts.fabric);
  EXPECT_TRUE(facts.pci_locality);
}
INSTANTIATE_TEST_SUITE_P(All, GpuDeviceTest,
                         testing::Values("/dev/nvidia0", "/dev/kfd", "/dev/dri/renderD128",
                                         "/dev/dxg"));

TEST(HostFactsTest, OfThisMachine) {
  const auto init = InitLoop::Start([](int) {});
  ASSERT_TRUE(init.ok()) << init.status();
  const v1::WorkerFacts facts = GatherHostFacts({.slots = 0, .job_root = "/jobs"}, **init);
  utsname names{};
  uname(&names);
  EXPECT_EQ(facts.host_name(), names.nodename);
  EXPECT_EQ(facts.architecture(), names.machine);
  EXPECT_THAT(facts.glibc_version(), MatchesRegex("2\\.[0-9]+"));
  EXPECT_GE(facts.slots(), 1u);
  EXPECT_LE(facts.slots(), std::thread::hardware_concurrency());
  EXPECT_THAT(facts.slots_reason(), testing::Not(testing::IsEmpty()));
  EXPECT_EQ(static_cast<unsigned>(facts.cpus_size()), std::thread::hardware_concurrency());
  EXPECT_GT(facts.shm_bytes(), 0u);
  EXPECT_THAT(facts.boot_id(), MatchesRegex("[0-9a-f-]{36}"));
  EXPECT_EQ(facts.job_root(), "/jobs");
  EXPECT_THAT(facts.agent_version(), MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_THAT(facts.mpi_version(), FindProgram("mpirun", getenv("PATH")).ok()
                                       ? MatchesRegex("[45]\\..*")
                                       : MatchesRegex(""));
}

TEST(HostFactsTest, SlotsOfTheUser) {
  const auto init = InitLoop::Start([](int) {});
  ASSERT_TRUE(init.ok()) << init.status();
  const v1::WorkerFacts facts = GatherHostFacts({.slots = 77, .job_root = ""}, **init);
  EXPECT_EQ(facts.slots(), 77u);
  EXPECT_THAT(facts.slots_reason(), HasSubstr("set by"));
}

}  // namespace
}  // namespace mpilaunch

int main(int argc, char** argv) {
  mpilaunch::PrepareProcess();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
