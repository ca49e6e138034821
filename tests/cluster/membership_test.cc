// Registration, trust and loss, with the real programs as plain processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/certificate_authority.h"
#include "common/join_bundle.h"
#include "support/process_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kRegistered[] = "registered with 127.0.0.1";

JoinBundle MustRead(const std::string& path) {
  absl::StatusOr<JoinBundle> bundle = ReadJoinBundle(path, absl::Now());
  EXPECT_TRUE(bundle.ok()) << bundle.status();
  return bundle.ok() ? *bundle : JoinBundle();
}

TEST(Membership, AgentRegistersAndRunsAJob) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  ASSERT_TRUE(cluster.StartAgent("w1").AwaitOutput(kRegistered));
  EXPECT_THAT(cluster.Mpilaunch({"workers"}).out, HasSubstr("w1"));
  EXPECT_EQ(cluster.Mpilaunch({"-n", "1", "/bin/echo", "hi"}).out, "hi\n");
}

TEST(Membership, WorkerWhoseJobRootIsMountedNoexecSaysSo) {
  ProcessCluster cluster;
  if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    GTEST_SKIP() << "no mount namespace here";
  const std::string folder = cluster.folder() + "/job-root-w1";
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  ASSERT_EQ(mount("tmpfs", folder.c_str(), "tmpfs", MS_NOEXEC, "mode=700"), 0);
  cluster.StartFrontend();
  ASSERT_TRUE(cluster.StartAgent("w1").AwaitOutput(kRegistered));
  EXPECT_THAT(cluster.Mpilaunch({"workers"}).out,
              HasSubstr(absl::StrCat("w1: no program can start in ", folder)));
  EXPECT_EQ(cluster.Mpilaunch({"-n", "1", "/bin/echo", "hi"}).code, 125);
  // What the worker has can run all the same.
  EXPECT_EQ(cluster.Mpilaunch({"-n", "1", "echo", "hi"}).out, "hi\n");
  cluster.agent("w1").Signal(SIGTERM);
  cluster.agent("w1").Finish();
  umount(folder.c_str());
}

TEST(Membership, FilesThatDoNotFitTogetherAreRefusedByTheFrontend) {
  ProcessCluster cluster;
  cluster.StartFrontend({"--store-bytes", "1000000"});
  for (const char* name : {"a", "b"})
    std::ofstream(cluster.folder() + "/" + name) << std::string(600000, *name);
  const CommandResult result = cluster.Mpilaunch({"-n", "1", "--stage", "a", "--stage", "b", "sh"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("is not in the frontend's store any more"));
  EXPECT_THAT(result.err, HasSubstr("--store-bytes"));
}

TEST(Membership, FilesThatDoNotFitTogetherAreRefusedByTheWorker) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  ASSERT_TRUE(cluster.StartAgent("w1", {"--store-bytes", "1000000"}).AwaitOutput(kRegistered));
  for (const char* name : {"a", "b"})
    std::ofstream(cluster.folder() + "/" + name) << std::string(600000, *name);
  const CommandResult result = cluster.Mpilaunch({"-n", "1", "--stage", "a", "--stage", "b", "sh"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("worker w1: "));
  EXPECT_THAT(result.err, HasSubstr("--store-bytes"));
  EXPECT_EQ(cluster.Mpilaunch({"-n", "1", "--stage", "a", "cat", "a"}).out,
            std::string(600000, 'a'));
}

TEST(Membership, AgentWaitsForItsFrontendAndItsBundle) {
  ProcessCluster cluster;
  Command& agent = cluster.StartAgent("w1");
  ASSERT_TRUE(agent.AwaitOutput("not registered"));
  cluster.StartFrontend();
  EXPECT_TRUE(agent.AwaitOutput(kRegistered));
}

TEST(Membership, FrontendNotRunningSaysHowToStartIt) {
  ProcessCluster cluster;
  const CommandResult result = cluster.Mpilaunch({"-n", "1", "/bin/true"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("mpilaunchd &"));
  EXPECT_THAT(result.err, HasSubstr("--local=2"));
}

TEST(Membership, NoWorkerRegistered) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  const CommandResult result = cluster.Mpilaunch({"-n", "1", "/bin/true"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("no worker is registered"));
  EXPECT_THAT(cluster.Mpilaunch({"workers"}).out, HasSubstr("no worker is registered"));
}

TEST(Membership, JobWaitsForLateJoiners) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  auto job = cluster.Start({"-n", "1", "--wait", "50", "/bin/echo", "late"});
  ASSERT_TRUE(job->AwaitOutput("0 slots on 0 workers"));
  cluster.StartAgent("w1");
  const CommandResult result = job->Finish();
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "late\n");
}

TEST(Membership, WaitThatIsOverIsAnError) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  const CommandResult result = cluster.Mpilaunch({"-n", "3", "--wait", "1", "/bin/true"});
  EXPECT_EQ(result.code, 125);
  EXPECT_GE(result.took, absl::Seconds(1));
}

TEST(Membership, SecondWorkerOfOneNameIsRefusedNamingBoth) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  ASSERT_TRUE(cluster.StartAgent("twin").AwaitOutput(kRegistered));
  Command second({absl::StrCat(MPILAUNCH_BIN_DIR, "/mpilaunch-agent"), "--frontend", "127.0.0.1",
                  "--listen", "127.0.0.1", "--name", "twin", "--join-bundle", cluster.bundle(),
                  "--job-root", cluster.folder() + "/other"});
  EXPECT_TRUE(second.AwaitOutput("two workers are named twin"));
  // The first one leaves: the name is free.
  cluster.agent("twin").Signal(SIGTERM);
  EXPECT_TRUE(second.AwaitOutput(kRegistered));
}

TEST(Membership, SigtermEndsAnAgentWith143AndItIsForgotten) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  Command& agent = cluster.StartAgent("w1");
  ASSERT_TRUE(agent.AwaitOutput(kRegistered));
  agent.Signal(SIGTERM);
  const CommandResult result = agent.Finish();
  EXPECT_EQ(result.code, 143);
  EXPECT_THAT(cluster.Mpilaunch({"workers"}).out, Not(HasSubstr("w1")));
}

TEST(Membership, KilledAgentIsLost) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  Command& agent = cluster.StartAgent("w1");
  ASSERT_TRUE(agent.AwaitOutput(kRegistered));
  agent.Signal(SIGKILL);
  ASSERT_TRUE(cluster.frontend().AwaitOutput("worker=w1 state=LOST"));
  EXPECT_THAT(cluster.Mpilaunch({"workers"}).out, HasSubstr("LOST"));
}

TEST(Membership, RestartedFrontendGetsItsWorkersBack) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  Command& agent = cluster.StartAgent("w1");
  ASSERT_TRUE(agent.AwaitOutput(kRegistered));
  cluster.KillFrontend();
  ASSERT_TRUE(agent.AwaitOutput("not registered"));
  const absl::Time restarted = absl::Now();
  cluster.StartFrontend();
  ASSERT_TRUE(cluster.frontend().AwaitOutput("worker=w1 state=READY"));
  EXPECT_LT(absl::Now() - restarted, absl::Seconds(10));
  EXPECT_EQ(cluster.Mpilaunch({"-n", "1", "/bin/echo", "again"}).out, "again\n");
}

TEST(Membership, FrontendThatLostItsStateGetsItsWorkersBackThroughTheNewBundle) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  ASSERT_TRUE(cluster.StartAgent("w1").AwaitOutput(kRegistered));
  cluster.KillFrontend();
  std::filesystem::remove_all(cluster.state_dir());
  cluster.StartFrontend();
  EXPECT_TRUE(cluster.frontend().AwaitOutput("worker=w1 state=READY"));
}

TEST(Membership, TornBundle) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  std::filesystem::resize_file(cluster.bundle(), std::filesystem::file_size(cluster.bundle()) / 2);
  EXPECT_TRUE(cluster.StartAgent("w1").AwaitOutput("torn"));
}

TEST(Membership, ExpiredBundle) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  JoinBundle bundle = MustRead(cluster.bundle());
  bundle.expires = absl::Now() - absl::Hours(1);
  ASSERT_TRUE(WriteJoinBundle(cluster.bundle(), bundle).ok());
  EXPECT_TRUE(cluster.StartAgent("w1").AwaitOutput("expired"));
}

TEST(Membership, BundleOfAnotherCluster) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  ProcessCluster other;
  other.StartFrontend();
  JoinBundle foreign = MustRead(other.bundle());
  const JoinBundle own = MustRead(cluster.bundle());
  foreign.enrol_port = own.enrol_port;
  foreign.control_port = own.control_port;
  ASSERT_TRUE(WriteJoinBundle(cluster.bundle(), foreign).ok());
  EXPECT_TRUE(cluster.StartAgent("w1").AwaitOutput("another cluster"));
  EXPECT_THAT(cluster.Mpilaunch({"workers"}).out, Not(HasSubstr("w1")));
}

TEST(Membership, AlteredToken) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  JoinBundle bundle = MustRead(cluster.bundle());
  bundle.token[bundle.token.size() / 2] = bundle.token[bundle.token.size() / 2] == 'A' ? 'B' : 'A';
  ASSERT_TRUE(WriteJoinBundle(cluster.bundle(), bundle).ok());
  EXPECT_TRUE(cluster.StartAgent("w1").AwaitOutput("token"));
  EXPECT_THAT(cluster.Mpilaunch({"workers"}).out, Not(HasSubstr("w1")));
}

TEST(Membership, TokensNeverReachTheLogs) {
  ProcessCluster cluster;
  cluster.StartFrontend({"--log-level", "debug"});
  const std::string token = MustRead(cluster.bundle()).token;
  Command& agent = cluster.StartAgent("w1", {"--log-level", "debug"});
  ASSERT_TRUE(agent.AwaitOutput(kRegistered));
  cluster.Mpilaunch({"-n", "1", "/bin/true"});
  agent.Signal(SIGTERM);
  cluster.frontend().Signal(SIGTERM);
  for (const CommandResult& result : {agent.Finish(), cluster.frontend().Finish()}) {
    EXPECT_EQ(result.code, 143);
    EXPECT_THAT(result.err, Not(HasSubstr(token)));
    EXPECT_THAT(result.out, Not(HasSubstr(token)));
  }
}

TEST(Membership, SecondFrontendOnTheSameSocketIsRefused) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  const CommandResult second = RunCommand(
      {absl::StrCat(MPILAUNCH_BIN_DIR, "/mpilaunchd"), "--listen", "127.0.0.1", "--control-port",
       "0", "--enrol-port", "0", "--state-dir", cluster.folder() + "/state2", "--socket",
       cluster.folder() + "/run/mpilaunchd.sock"});
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.err, HasSubstr("another mpilaunchd"));
}

TEST(Membership, FrontendKilledMidRunLeavesNoRank) {
  ProcessCluster cluster;
  cluster.StartFrontend();
  Command& agent = cluster.StartAgent("w1");
  ASSERT_TRUE(agent.AwaitOutput(kRegistered));
  auto job = cluster.Start({"-n", "1", "/bin/sh", "-c", "echo started; exec sleep 1234.5"});
  ASSERT_TRUE(job->AwaitOutput("started"));
  cluster.KillFrontend();
  EXPECT_EQ(job->Finish().code, 125);
  agent.Signal(SIGTERM);
  EXPECT_EQ(agent.Finish().code, 143);
  EXPECT_NE(RunCommand({"pgrep", "-f", "^sleep 1234.5$"}).code, 0);
}

}  // namespace
}  // namespace mpilaunch::testing
