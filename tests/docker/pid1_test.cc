// The agent as a container's PID 1.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "support/docker_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class Pid1 : public ::testing::TestWithParam<std::string> {
 protected:
  Pid1() {
    cluster_.StartWorkers(1);
    cluster_.Compile("tests/programs/probe.c", "probe");
  }

  // Number, state and name of each process, as the host sees them.
  Words Processes() const {
    return absl::StrSplit(Docker({"top", worker_, "-o", "pid,stat,comm"}), '\n');
  }
  // Nothing but the agent, behind the heading.
  bool OnlyTheAgentIsLeft() const {
    const Words processes = Processes();
    return processes.size() == 2 && absl::StrContains(processes[1], "mpilaunch-agent");
  }

  DockerCluster cluster_{GetParam()};
  const std::string worker_ = cluster_.Container("mpiwn1");
};

INSTANTIATE_TEST_SUITE_P(OpenMpi, Pid1, BothSeries(), SeriesName);

TEST_P(Pid1, ReapsAThousandOrphansAndAThousandZombies) {
  cluster_.Compile("tests/programs/orphans.c", "orphans");
  const CommandResult result = cluster_.Mpilaunch({"-n", "1", "orphans", "1000"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(Await([this] { return OnlyTheAgentIsLeft(); }))
      << ::testing::PrintToString(Processes());
}

TEST_P(Pid1, RanksThatIgnoreSigtermDieInTimeWithDockerStop) {
  auto job = cluster_.StartMpilaunch({"-n", "4", "probe", "stubborn"});
  ASSERT_TRUE(job->AwaitOutput("rank 3 sleeps"));
  const CommandResult stopped = RunCommand({"docker", "stop", worker_});
  EXPECT_LT(stopped.took, absl::Seconds(10));
  EXPECT_EQ(Docker({"inspect", "--format", "{{.State.ExitCode}}", worker_}), "143");
  const CommandResult result = job->Finish();
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("mpiwn1"));

  // Started again it is the same worker.
  Docker({"start", worker_});
  cluster_.AwaitReady({"mpiwn1"});
  EXPECT_EQ(cluster_.Mpilaunch({"-n", "4", "probe", "exchange"}).out, "exchange of 4 ranks good\n");
}

TEST_P(Pid1, LogsAreOneLinePerEventWithoutSecrets) {
  cluster_.Mpilaunch({"-n", "4", "probe", "exit", "3"});
  const CommandResult logs = RunCommand({"docker", "logs", worker_});
  EXPECT_EQ(logs.out, "");
  EXPECT_THAT(logs.err, HasSubstr("info worker=mpiwn1 registered with mpife\n"));
  const std::regex readable(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warn|error) [ -~]+)");
  for (const std::string& line : Words(absl::StrSplit(logs.err, '\n', absl::SkipEmpty()))) {
    EXPECT_TRUE(std::regex_match(line, readable)) << line;
  }
  const CommandResult bundle = cluster_.Exec("mpiwn1", {"cat", "/run/join/worker.json"});
  const std::string token = nlohmann::json::parse(bundle.out).at("token");
  EXPECT_THAT(token, SizeIs(::testing::Gt(20u)));
  EXPECT_THAT(logs.err, Not(HasSubstr(token)));
  EXPECT_THAT(logs.err, Not(HasSubstr("PRIVATE KEY")));
}

}  // namespace
}  // namespace mpilaunch::testing
