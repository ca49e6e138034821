// `mpilaunch --local`: a cluster for one run, and nothing of it afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "support/mpi_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Mpilaunch() { return absl::StrCat(MPILAUNCH_BIN_DIR, "/mpilaunch"); }

size_t CountLines(const std::string& text) {
  return std::vector<std::string>(absl::StrSplit(text, '\n', absl::SkipEmpty())).size();
}

std::set<std::string> EntriesOf(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename());
  return names;
}

class LocalCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
    CompileMpi("examples/hello.c", folder_ / "hello");
    CompileMpi("tests/programs/probe.c", folder_ / "probe");
  }
  Command::Options InFolder() const {
    Command::Options options;
    options.working_directory = folder_.path();
    return options;
  }
  TemporaryFolder folder_;
};

TEST_F(LocalCommand, EightRanksOnTwoWorkers) {
  const CommandResult result =
      RunCommand({Mpilaunch(), "--local=2", "hello", "-n", "8"}, InFolder());
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(CountLines(result.out), 8u);
  EXPECT_THAT(result.out, HasSubstr("process number: 3 on host w1"));
  EXPECT_THAT(result.out, HasSubstr("process number: 4 on host w2"));
  EXPECT_EQ(result.err, "");
}

TEST_F(LocalCommand, OrdinaryUserNeedsNoRights) {
  if (geteuid() != 0) GTEST_SKIP() << "the other tests run as an ordinary user already";
  // The programs must be where that user can read them.
  for (const char* program : {"mpilaunch", "mpilaunchd", "mpilaunch-agent", "mpilaunch-rsh"}) {
    std::filesystem::copy_file(absl::StrCat(MPILAUNCH_BIN_DIR, "/", program), folder_ / program);
  }
  const CommandResult result =
      RunCommand({"setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups",
                  "--inh-caps=-all", "env", "-u", "HOME", folder_ / "mpilaunch", "--local=2",
                  folder_ / "probe", "-n", "4", "where"},
                 InFolder());
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("rank 3 of 4 host w2"));
  EXPECT_THAT(result.out, HasSubstr("uid 12345"));
}

TEST_F(LocalCommand, NothingIsLeftAfterSigkill) {
  const std::set<std::string> temporary_files = EntriesOf("/tmp");
  const std::set<std::string> shared_memory = EntriesOf("/dev/shm");
  Command command({Mpilaunch(), "--local=2", "probe", "-n", "4", "sleep", "1000"}, InFolder());
  ASSERT_TRUE(command.AwaitOutput("rank 3 sleeps"));
  // A cluster that goes on would keep the pipe of its standard error open.
  command.Signal(SIGKILL);
  EXPECT_EQ(command.Finish().code, 137);
  EXPECT_THAT(MpiCluster::FindProcesses("probe"), IsEmpty());
  for (const std::string& name : EntriesOf("/dev/shm"))
    EXPECT_TRUE(shared_memory.count(name) != 0) << name;
  for (const std::string& name : EntriesOf("/tmp")) {
    if (name.find("mpilaunch") == 0 || name.find("ompi") == 0) {
      EXPECT_TRUE(temporary_files.count(name) != 0 || name.find("mpilaunch-test-") == 0) << name;
    }
  }
}

TEST_F(LocalCommand, ExitCodeAndSignals) {
  EXPECT_EQ(
      RunCommand({Mpilaunch(), "--local=2", "probe", "-n", "2", "exit", "7"}, InFolder()).code, 7);
  Command command({Mpilaunch(), "--local=1", "probe", "-n", "2", "sleep", "1000"}, InFolder());
  ASSERT_TRUE(command.AwaitOutput("rank 1 sleeps"));
  command.Signal(SIGINT);
  EXPECT_EQ(command.Finish().code, 130);
}

// More hosts than Open MPI's launch tree is wide (64), and than mpirun starts at once (128).
class ManyWorkers : public LocalCommand, public ::testing::WithParamInterface<int> {};

TEST_P(ManyWorkers, RunWithoutHanging) {
  const std::string workers = absl::StrCat(GetParam());
  const CommandResult plain =
      RunCommand({Mpilaunch(), "--local=" + workers, "-n", workers, "--oversubscribe", "/bin/true"},
                 InFolder());
  EXPECT_EQ(plain.code, 0) << plain.err;
  const CommandResult mpi =
      RunCommand({Mpilaunch(), "--local=" + workers, "-n", workers, "hello"}, InFolder());
  EXPECT_EQ(mpi.code, 0) << mpi.err;
  EXPECT_EQ(CountLines(mpi.out), static_cast<size_t>(GetParam()));
}
INSTANTIATE_TEST_SUITE_P(Local, ManyWorkers, ::testing::Values(65, 72, 130));

// A worker's death, at each step of a job.

class WorkerLost : public ::testing::Test {
 protected:
  // The agent is its container's process 1: with it everything there ends.
  static void KillWorker(const std::string& host) {
    const pid_t agent = MpiCluster::FindProcess("mpilaunch-agent", host);
    ASSERT_GT(agent, 0);
    ASSERT_EQ(kill(agent, SIGKILL), 0);
  }
};

TEST_F(WorkerLost, WhileRunning) {
  MpiCluster cluster(2, 2);
  auto job = cluster.Start({"probe", "-n", "4", "sleep", "1000"});
  ASSERT_TRUE(job->AwaitOutput("rank 3 sleeps"));
  const absl::Time killed = absl::Now();
  KillWorker("w2");
  const CommandResult result = job->Finish();
  EXPECT_LT(absl::Now() - killed, absl::Seconds(5));
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("worker w2 was lost"));
  EXPECT_THAT(MpiCluster::FindProcesses("probe"), IsEmpty());
  EXPECT_THAT(cluster.Mpilaunch({"workers"}).out, HasSubstr("LOST"));
  EXPECT_EQ(cluster.Mpilaunch({"hello", "-n", "2"}).code, 0);  // the other one goes on
}

TEST_F(WorkerLost, WhileQueuedItIsNotCountedOn) {
  MpiCluster cluster(2, 2);
  auto running =
      cluster.Start({"--map", "pack", "-n", "2", "probe", "sleep", "1000"});  // all of w1
  ASSERT_TRUE(running->AwaitOutput("rank 1 sleeps"));
  auto queued = cluster.Start({"hello", "-n", "4"});
  ASSERT_TRUE(queued->AwaitOutput("waits"));
  KillWorker("w2");
  const CommandResult result = queued->Finish();
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("4 ranks asked for, 2 slots"));
  running->Signal(SIGINT);
  EXPECT_EQ(running->Finish().code, 130);
}

TEST_F(WorkerLost, DaemonKilledWhileRunning) {
  MpiCluster cluster(2, 2);
  auto job = cluster.Start({"probe", "-n", "4", "sleep", "1000"});
  ASSERT_TRUE(job->AwaitOutput("rank 3 sleeps"));
  const pid_t orted = MpiCluster::FindProcess("orted", "w2");
  ASSERT_GT(orted, 0);
  ASSERT_EQ(kill(orted, SIGKILL), 0);
  EXPECT_NE(job->Finish().code, 0);
  EXPECT_THAT(MpiCluster::FindProcesses("probe"), IsEmpty());
  EXPECT_EQ(cluster.Mpilaunch({"hello", "-n", "4"}).code, 0);
}

}  // namespace
}  // namespace mpilaunch::testing
