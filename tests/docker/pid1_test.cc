// The agent as a container's PID 1.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "support/docker_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

// One worker with four slots for all tests of a series; who stops it starts it again.
class Pid1 : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (auto& cluster = clusters_[GetParam()]; cluster == nullptr) {
      cluster = std::make_unique<DockerCluster>(GetParam());
      cluster->StartWorkers(1);
      cluster->Compile("tests/programs/probe.c", "probe");
      cluster->Compile("tests/programs/orphans.c", "orphans");
    }
  }
  static void TearDownTestSuite() { clusters_.clear(); }

  static DockerCluster& Cluster() { return *clusters_.at(GetParam()); }
  static std::string Worker() { return Cluster().Container("mpiwn1"); }

  // State and name of each process, as the host sees them.
  static Words Processes() {
    return absl::StrSplit(Docker({"top", Worker(), "-o", "pid,stat,comm"}), '\n');
  }
  // Nothing but the agent, behind the heading.
  static bool OnlyTheAgentIsLeft() {
    const Words processes = Processes();
    return processes.size() == 2 && absl::StrContains(processes[1], "mpilaunch-agent");
  }

 private:
  static inline std::map<std::string, std::unique_ptr<DockerCluster>> clusters_;
};

INSTANTIATE_TEST_SUITE_P(OpenMpi, Pid1, BothSeries(), SeriesName);

TEST_P(Pid1, ReapsAThousandOrphansAndAThousandZombies) {
  const CommandResult result = Cluster().Mpilaunch({"-n", "1", "orphans", "1000"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(Await(OnlyTheAgentIsLeft)) << ::testing::PrintToString(Processes());
}

TEST_P(Pid1, RanksThatIgnoreSigtermDieInTimeWithDockerStop) {
  auto job = Cluster().StartMpilaunch({"-n", "4", "probe", "stubborn"});
  ASSERT_TRUE(job->AwaitOutput("rank 3 sleeps"));
  const CommandResult stopped = RunCommand({"docker", "stop", Worker()});
  EXPECT_LT(stopped.took, absl::Seconds(10));
  EXPECT_EQ(Docker({"inspect", "--format", "{{.State.ExitCode}}", Worker()}), "143");
  const CommandResult result = job->Finish();
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("mpiwn1"));
  Docker({"start", Worker()});
  Cluster().AwaitReady({"mpiwn1"});
}

TEST_P(Pid1, StopAndStartAgainIsTheSameWorker) {
  Docker({"restart", Worker()});
  Cluster().AwaitReady({"mpiwn1"});
  EXPECT_EQ(Cluster().Mpilaunch({"-n", "4", "probe", "exchange"}).out,
            "exchange of 4 ranks good\n");
}

TEST_P(Pid1, LogsAreOneLinePerEventWithoutSecrets) {
  Cluster().Mpilaunch({"-n", "4", "probe", "exit", "3"});
  const CommandResult logs = RunCommand({"docker", "logs", Worker()});
  EXPECT_EQ(logs.out, "");
  EXPECT_THAT(logs.err, HasSubstr("info worker=mpiwn1 registered with mpife\n"));
  const std::regex readable(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warn|error) [ -~]+)");
  for (const std::string& line : Words(absl::StrSplit(logs.err, '\n', absl::SkipEmpty()))) {
    EXPECT_TRUE(std::regex_match(line, readable)) << line;
  }
  const CommandResult bundle = Cluster().Exec("mpiwn1", {"cat", "/run/join/worker.json"});
  const std::string token = nlohmann::json::parse(bundle.out).at("token");
  EXPECT_THAT(token, SizeIs(::testing::Gt(20u)));
  EXPECT_THAT(logs.err, Not(HasSubstr(token)));
  EXPECT_THAT(logs.err, Not(HasSubstr("PRIVATE KEY")));
}

}  // namespace
}  // namespace mpilaunch::testing
