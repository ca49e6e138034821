// What a container may not use: shown by `mpilaunch workers`, and kept to by the jobs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "support/docker_cluster.h"
#include "support/temporary_folder.h"

namespace mpilaunch::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr uint64_t kMiB = 1 << 20;
constexpr char kNoCma[] = "may not read another process's memory (CMA)";
constexpr char kByNetwork[] = ": the network by which the workers reached the frontend";

class Limits : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(OpenMpi, Limits, BothSeries(), SeriesName);

TEST_P(Limits, SlotsFollowCpuQuotaAndCpuset) {
  DockerCluster cluster(GetParam());
  cluster.StartWorker("half", {.docker = {"--cpus", "0.5"}});
  cluster.StartWorker("more", {.docker = {"--cpus", "1.5"}});
  cluster.StartWorker("pinned", {.docker = {"--cpuset-cpus", "0"}});
  cluster.AwaitReady({"half", "more", "pinned"});

  const nlohmann::json half = cluster.Worker("half");
  EXPECT_EQ(half.at("slots"), 1);
  EXPECT_THAT(half.at("slots_reason"), StartsWith("ceil(cpu quota 0.5), cgroup v"));
  const unsigned cores = std::thread::hardware_concurrency();
  const nlohmann::json more = cluster.Worker("more");
  EXPECT_EQ(more.at("slots"), std::min(2u, cores));
  if (cores > 1) {
    EXPECT_THAT(more.at("slots_reason"), StartsWith("ceil(cpu quota 1.5), cgroup v"));
  }
  const nlohmann::json pinned = cluster.Worker("pinned");
  EXPECT_EQ(pinned.at("slots"), 1);
  EXPECT_EQ(pinned.at("slots_reason"), "1 core by affinity");

  cluster.Compile("tests/programs/probe.c", "probe");
  const CommandResult result = cluster.Mpilaunch({"probe", "exchange"});
  EXPECT_EQ(result.out, absl::StrCat("exchange of ", 2 + std::min(2u, cores), " ranks good\n"));
  EXPECT_EQ(result.err, "");
}

TEST_P(Limits, SmallSharedMemoryIsWarnedOfBeforeTheRun) {
  DockerCluster cluster(GetParam());
  // One rank more than the segments of Open MPI's transport find room for.
  const int ranks = GetParam() == kOpenMpi4 ? 17 : 5;
  const std::string slots = absl::StrCat("MPILAUNCH_SLOTS=", ranks);
  cluster.StartWorker("small", {.docker = {"--env", slots}});
  cluster.AwaitReady({"small"});
  EXPECT_EQ(cluster.Worker("small").at("shm_bytes"), 64 * kMiB);
  const CommandResult warned = cluster.Mpilaunch({"hello", "-n", absl::StrCat(ranks)});
  EXPECT_EQ(warned.code, 0);
  EXPECT_THAT(warned.err, HasSubstr("small has 64 MiB of /dev/shm"));
  EXPECT_THAT(warned.err, HasSubstr("--shm-size"));
  EXPECT_EQ(cluster.Mpilaunch({"hello", "-n", "2"}).err, "");

  Docker({"rm", "--force", cluster.Container("small")});
  cluster.StartWorker("large", {.docker = {"--shm-size", "1g", "--env", slots}});
  cluster.AwaitReady({"large"});
  EXPECT_EQ(cluster.Worker("large").at("shm_bytes"), 1024 * kMiB);
  EXPECT_EQ(cluster.Mpilaunch({"hello", "-n", absl::StrCat(ranks)}).err, "");
}

TEST_P(Limits, CrossMemoryAttachIsUsedOnlyWhereSeccompAllowsIt) {
  DockerCluster cluster(GetParam());
  cluster.Compile("tests/programs/probe.c", "probe");
  const TemporaryFolder folder;
  const std::string profile = folder.Write("forbid.json", R"({
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["process_vm_readv", "process_vm_writev"], "action": "SCMP_ACT_ERRNO"}]
  })");
  const Words forbidden = {"--env", "MPILAUNCH_SLOTS=2", "--security-opt", "seccomp=" + profile};
  cluster.StartWorker("forbidden", {.docker = forbidden});
  cluster.AwaitReady({"forbidden"});
  EXPECT_EQ(cluster.Worker("forbidden").at("cma"), false);
  EXPECT_THAT(cluster.Mpilaunch({"-v", "-n", "2", "hello"}).err, HasSubstr(kNoCma));
  CommandResult result = cluster.Mpilaunch({"-n", "2", "probe", "exchange"});
  EXPECT_EQ(result.out, "exchange of 2 ranks good\n");
  EXPECT_EQ(result.err, "");

  Docker({"rm", "--force", cluster.Container("forbidden")});
  const Words allowed = {"--env", "MPILAUNCH_SLOTS=2", "--security-opt", "seccomp=unconfined"};
  cluster.StartWorker("allowed", {.docker = allowed});
  cluster.AwaitReady({"allowed"});
  EXPECT_EQ(cluster.Worker("allowed").at("cma"), true);
  EXPECT_THAT(cluster.Mpilaunch({"-v", "-n", "2", "hello"}).err, Not(HasSubstr(kNoCma)));
  result = cluster.Mpilaunch({"-n", "2", "probe", "exchange"});
  EXPECT_EQ(result.out, "exchange of 2 ranks good\n");
  EXPECT_EQ(result.err, "");
}

TEST_P(Limits, OfTwoNetworksTheOneTowardsTheFrontendIsUsed) {
  DockerCluster cluster(GetParam());
  cluster.Compile("tests/programs/probe.c", "probe");
  const std::string other = cluster.scope().Name("other");
  Docker({"network", "create", "--label", cluster.scope().Label(), other});
  cluster.StartWorker("first", {.docker = {"--env", "MPILAUNCH_SLOTS=2"}});
  Docker({"network", "connect", other, cluster.Container("first")});
  // This one cannot find the frontend before it comes to the cluster's network.
  cluster.StartWorker("last", {.docker = {"--env", "MPILAUNCH_SLOTS=2"}, .network = other});
  Docker({"network", "connect", cluster.network(), cluster.Container("last")});
  cluster.AwaitReady({"first", "last"});

  const std::string subnet = Docker(
      {"network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", cluster.network()});
  for (const char* worker : {"first", "last"}) {
    EXPECT_EQ(cluster.Worker(worker).at("network"), subnet) << worker;
  }
  const CommandResult verbose = cluster.Mpilaunch({"-v", "-n", "4", "hello"});
  EXPECT_THAT(verbose.err, HasSubstr(absl::StrCat("btl_tcp_if_include=", subnet, kByNetwork)));
  const CommandResult result = cluster.Mpilaunch({"-n", "4", "probe", "exchange"});
  EXPECT_EQ(result.out, "exchange of 4 ranks good\n");
  EXPECT_EQ(result.err, "");
}

}  // namespace
}  // namespace mpilaunch::testing
