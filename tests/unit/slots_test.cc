#include "agent/slots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;

constexpr char kV2Mount[] =
    "29 23 0:26 / /sys/fs/cgroup ro,nosuid shared:4 - cgroup2 cgroup rw,nsdelegate\n";
constexpr char kV1Mounts[] =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";

// A machine of cgroup files; remembers what was asked for.
struct Machine {
  std::map<std::string, std::string> files;
  std::set<std::string> asked;
  SlotInputs inputs;

  Slots Count() {
    inputs.read_file = [this](const std::string& path) -> std::optional<std::string> {
      asked.insert(path);
      const auto found = files.find(path);
      if (found == files.end()) return std::nullopt;
      return found->second;
    };
    return CountSlots(inputs);
  }
};

Machine WithV2(const std::string& own_path, std::map<std::string, std::string> files) {
  Machine machine;
  machine.inputs.affinity_cpus = 8;
  machine.inputs.own_cgroup = "0::" + own_path + "\n";
  machine.inputs.mountinfo = kV2Mount;
  machine.files = std::move(files);
  return machine;
}

Machine WithV1(const std::string& own_path, std::map<std::string, std::string> files) {
  Machine machine;
  machine.inputs.affinity_cpus = 8;
  machine.inputs.own_cgroup =
      "5:cpuset:/elsewhere\n4:cpu,cpuacct:" + own_path + "\n1:name=systemd:/elsewhere\n";
  machine.inputs.mountinfo = kV1Mounts;
  machine.files = std::move(files);
  return machine;
}

TEST(SlotsTest, AffinityAloneWhereThereIsNoCgroup) {
  Machine machine;
  machine.inputs.affinity_cpus = 2;
  const Slots slots = machine.Count();
  EXPECT_EQ(slots.count, 2u);
  EXPECT_EQ(slots.reason, "2 cores by affinity");
}

TEST(SlotsTest, OneCoreIsNotCores) {
  Machine machine;
  machine.inputs.affinity_cpus = 1;
  EXPECT_EQ(machine.Count().reason, "1 core by affinity");
}

TEST(SlotsTest, UnknownAffinityGivesOneSlot) {
  Machine machine;
  EXPECT_EQ(machine.Count().count, 1u);
}

TEST(SlotsTest, TheUserWinsOverEverything) {
  Machine machine = WithV2("/", {{"/sys/fs/cgroup/cpu.max", "100000 100000\n"}});
  machine.inputs.set_by_user = 64;
  const Slots slots = machine.Count();
  EXPECT_EQ(slots.count, 64u);
  EXPECT_EQ(slots.reason, "set by --slots");
}

TEST(SlotsTest, V2InsideTheNamespaceOfAContainer) {
  const Slots slots = WithV2("/", {{"/sys/fs/cgroup/cpu.max", "150000 100000\n"}}).Count();
  EXPECT_EQ(slots.count, 2u);
  EXPECT_EQ(slots.reason, "ceil(cpu quota 1.5), cgroup v2");
}

TEST(SlotsTest, V2WholeCoresAreNotRoundedUp) {
  const Slots slots = WithV2("/", {{"/sys/fs/cgroup/cpu.max", "400000 100000\n"}}).Count();
  EXPECT_EQ(slots.count, 4u);
  EXPECT_EQ(slots.reason, "ceil(cpu quota 4), cgroup v2");
}

TEST(SlotsTest, V2MaxIsNoQuota) {
  EXPECT_EQ(WithV2("/", {{"/sys/fs/cgroup/cpu.max", "max 100000\n"}}).Count().reason,
            "8 cores by affinity");
}

TEST(SlotsTest, V2TinyQuotaIsOneSlot) {
  const Slots slots = WithV2("/", {{"/sys/fs/cgroup/cpu.max", "1000 1000000\n"}}).Count();
  EXPECT_EQ(slots.count, 1u);
  EXPECT_EQ(slots.reason, "ceil(cpu quota 0.001), cgroup v2");
}

TEST(SlotsTest, V2TightestAncestorCounts) {
  Machine machine =
      WithV2("/pods/pod1/c1", {{"/sys/fs/cgroup/pods/pod1/c1/cpu.max", "max 100000\n"},
                               {"/sys/fs/cgroup/pods/pod1/cpu.max", "250000 100000\n"},
                               {"/sys/fs/cgroup/pods/cpu.max", "700000 100000\n"}});
  const Slots slots = machine.Count();
  EXPECT_EQ(slots.count, 3u);
  EXPECT_EQ(slots.reason, "ceil(cpu quota 2.5), cgroup v2");
}

TEST(SlotsTest, QuotaAboveTheAffinityChangesNothing) {
  EXPECT_EQ(WithV2("/", {{"/sys/fs/cgroup/cpu.max", "6400000 100000\n"}}).Count().reason,
            "8 cores by affinity");
}

TEST(SlotsTest, QuotaEqualToTheAffinityIsReportedAsAffinity) {
  EXPECT_EQ(WithV2("/", {{"/sys/fs/cgroup/cpu.max", "800000 100000\n"}}).Count().reason,
            "8 cores by affinity");
}

TEST(SlotsTest, QuotaBelowTheAffinityIsNamedThoughTheNumberIsTheSame) {
  const Slots slots = WithV2("/", {{"/sys/fs/cgroup/cpu.max", "750000 100000\n"}}).Count();
  EXPECT_EQ(slots.count, 8u);
  EXPECT_EQ(slots.reason, "ceil(cpu quota 7.5), cgroup v2");
}

TEST(SlotsTest, V2ContainerThatSeesOnlyItsSubTree) {
  Machine machine = WithV2("/docker/c1", {{"/sys/fs/cgroup/cpu.max", "200000 100000\n"}});
  machine.inputs.mountinfo = "29 23 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
  EXPECT_EQ(machine.Count().count, 2u);
  EXPECT_EQ(machine.asked.count("/sys/fs/cgroup/docker/c1/cpu.max"), 0u);
}

TEST(SlotsTest, V2SubTreeUnderAPathThatDoesNotTellWhereItIs) {
  Machine machine = WithV2("/../other", {{"/sys/fs/cgroup/cpu.max", "200000 100000\n"}});
  EXPECT_EQ(machine.Count().count, 2u);
  for (const std::string& path : machine.asked) EXPECT_THAT(path, Not(HasSubstr("..")));
}

TEST(SlotsTest, AMountOfASiblingWithTheSameBeginningIsNotOurs) {
  Machine machine = WithV2(
      "/docker/c10", {{"/own/cpu.max", "300000 100000\n"}, {"/c1/cpu.max", "100000 100000\n"}});
  machine.inputs.mountinfo =
      "29 23 0:26 /docker/c1 /c1 ro - cgroup2 cgroup rw\n30 23 0:26 /docker/c10 /own ro - cgroup2 "
      "cgroup rw\n";
  EXPECT_EQ(machine.Count().count, 3u);
}

TEST(SlotsTest, V1Quota) {
  const Slots slots =
      WithV1("/docker/c1", {{"/sys/fs/cgroup/cpu,cpuacct/docker/c1/cpu.cfs_quota_us", "150000\n"},
                            {"/sys/fs/cgroup/cpu,cpuacct/docker/c1/cpu.cfs_period_us", "100000\n"}})
          .Count();
  EXPECT_EQ(slots.count, 2u);
  EXPECT_EQ(slots.reason, "ceil(cpu quota 1.5), cgroup v1");
}

TEST(SlotsTest, V1MinusOneIsNoQuota) {
  EXPECT_EQ(WithV1("/", {{"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"},
                         {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"}})
                .Count()
                .reason,
            "8 cores by affinity");
}

TEST(SlotsTest, V1TightestAncestorCounts) {
  EXPECT_EQ(WithV1("/a/b", {{"/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "500000\n"},
                            {"/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n"},
                            {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "60000\n"},
                            {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "20000\n"}})
                .Count()
                .count,
            3u);
}

TEST(SlotsTest, V1ContainerThatSeesOnlyItsSubTree) {
  Machine machine = WithV1("/docker/c1", {{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n"},
                                          {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}});
  machine.inputs.mountinfo =
      "33 31 0:30 /docker/c1 /sys/fs/cgroup/cpu ro master:9 - cgroup cgroup rw,cpu\n";
  EXPECT_EQ(machine.Count().count, 2u);
}

TEST(SlotsTest, HybridTakesTheQuotaFromV1) {
  Machine machine = WithV1(
      "/docker/c1", {{"/sys/fs/cgroup/cpu,cpuacct/docker/c1/cpu.cfs_quota_us", "100000\n"},
                     {"/sys/fs/cgroup/cpu,cpuacct/docker/c1/cpu.cfs_period_us", "100000\n"}});
  machine.inputs.own_cgroup += "0::/docker/c1\n";
  machine.inputs.mountinfo += "35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
  const Slots slots = machine.Count();
  EXPECT_EQ(slots.count, 1u);
  EXPECT_EQ(slots.reason, "ceil(cpu quota 1), cgroup v1");
  EXPECT_EQ(machine.asked.count("/sys/fs/cgroup/unified/docker/c1/cpu.max"), 1u);
}

TEST(SlotsTest, CpusetAndCpuacctAreNotCpu) {
  Machine machine;
  machine.inputs.affinity_cpus = 8;
  machine.inputs.own_cgroup = "5:cpuset:/\n4:cpuacct:/\n";
  machine.inputs.mountinfo = kV1Mounts;
  machine.files = {{"/sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "100000"},
                   {"/sys/fs/cgroup/cpuset/cpu.cfs_period_us", "100000"}};
  EXPECT_EQ(machine.Count().count, 8u);
}

TEST(SlotsTest, MountPointWithABlank) {
  Machine machine = WithV2("/", {{"/my cgroup/cpu.max", "100000 100000"}});
  machine.inputs.mountinfo = "29 23 0:26 / /my\\040cgroup ro - cgroup2 cgroup rw\n";
  EXPECT_EQ(machine.Count().count, 1u);
}

class BadTextTest : public testing::TestWithParam<const char*> {};

TEST_P(BadTextTest, FallsBackToTheAffinityAndNamesTheFile) {
  const Slots slots = WithV2("/", {{"/sys/fs/cgroup/cpu.max", GetParam()}}).Count();
  EXPECT_EQ(slots.count, 8u);
  EXPECT_EQ(slots.reason, "8 cores by affinity (/sys/fs/cgroup/cpu.max not understood)");
}

INSTANTIATE_TEST_SUITE_P(All, BadTextTest,
                         testing::Values("", "\n", "garbage", "100000", "0 100000", "100000 0",
                                         "-5 100000", "1e5 100000", "100000 100000 1",
                                         "99999999999999999999999999 100000"));

TEST(SlotsTest, V1WithoutAPeriodFallsBack) {
  EXPECT_THAT(
      WithV1("/", {{"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n"}}).Count().reason,
      HasSubstr("cpu.cfs_quota_us not understood"));
}

TEST(SlotsTest, TheLargestNumbersDoNotOverflow) {
  Machine machine = WithV2("/", {{"/sys/fs/cgroup/cpu.max", "18446744073709551615 1"}});
  machine.inputs.affinity_cpus = 0;
  EXPECT_EQ(machine.Count().count, 4294967295u);
}

TEST(SlotsTest, RandomBytesNeverCrash) {
  std::mt19937 random(1);
  const std::string alphabet("0:/ -\n,.cpugroup2max\\\0", 22);
  for (int round = 0; round < 20000; ++round) {
    const auto text = [&] {
      std::string result(random() % 120, ' ');
      for (char& c : result) c = alphabet[random() % alphabet.size()];
      return result;
    };
    SlotInputs inputs;
    inputs.affinity_cpus = 4;
    inputs.own_cgroup = "0::" + text() + "\n1:cpu:/" + text();
    inputs.mountinfo = kV2Mount + text() + " - cgroup2 c rw\n" + text();
    inputs.read_file = [&](const std::string&) { return text(); };
    const Slots slots = CountSlots(inputs);
    ASSERT_GE(slots.count, 1u);
    ASSERT_LE(slots.count, 4u);
  }
}

}  // namespace
}  // namespace mpilaunch
