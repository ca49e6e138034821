// The exercise that this project answers, in real containers: a frontend and workers, and nothing
// typed but `mpilaunch`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "support/docker_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class Exam : public ::testing::TestWithParam<std::string> {
 protected:
  void Compile() {
    const CommandResult result = cluster_.Exec("mpife", {"mpicc", "-o", "hello", "hello.c"});
    ASSERT_EQ(result.code, 0) << result.err;
  }

  // What ran where, of a run that must be a good one.
  std::map<std::string, int> Hello(const Words& words, const std::string& greeting = kGreeting) {
    const CommandResult result = cluster_.Mpilaunch(words);
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.err, "");
    return RanksPerHost(result.out, greeting);
  }

  void StopWorker(const std::string& host) {
    const CommandResult stopped = RunCommand({"docker", "stop", cluster_.Container(host)});
    EXPECT_LT(stopped.took, absl::Seconds(10)) << host;
    EXPECT_EQ(Docker({"inspect", "--format", "{{.State.ExitCode}}", cluster_.Container(host)}),
              "143");
  }

  static constexpr char kGreeting[] = "Hello world!";
  DockerCluster cluster_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(OpenMpi, Exam, BothSeries(), SeriesName);

TEST_P(Exam, StepByStep) {
  Compile();

  // Alone in the frontend.
  const CommandResult nobody = cluster_.Mpilaunch({"hello", "-n", "4"});
  EXPECT_EQ(nobody.code, 125);
  EXPECT_EQ(nobody.out, "");
  EXPECT_THAT(nobody.err, HasSubstr("no worker is registered"));
  EXPECT_THAT(nobody.err, HasSubstr("--here"));
  // It may say that the ranks share fewer slots.
  const CommandResult here = cluster_.Mpilaunch({"hello", "-n", "4", "--here"});
  EXPECT_EQ(here.code, 0) << here.err;
  EXPECT_THAT(RanksPerHost(here.out), ElementsAre(Pair("mpife", 4)));

  // Two workers.
  cluster_.StartWorkers(2);
  EXPECT_THAT(Hello({"hello", "-n", "8"}), ElementsAre(Pair("mpiwn1", 4), Pair("mpiwn2", 4)));

  // The program rebuilt: the new one runs.
  const CommandResult edited =
      cluster_.Exec("mpife", {"sed", "-i", "s/Hello world!/Good morning!/", "hello.c"});
  ASSERT_EQ(edited.code, 0) << edited.err;
  Compile();
  const std::string morning = "Good morning!";
  EXPECT_THAT(Hello({"hello", "-n", "8"}, morning),
              ElementsAre(Pair("mpiwn1", 4), Pair("mpiwn2", 4)));

  // Four workers, then one.
  for (const char* host : {"mpiwn3", "mpiwn4"})
    cluster_.StartWorker(host, {.docker = {"--env", "MPILAUNCH_SLOTS=4"}});
  cluster_.AwaitReady({"mpiwn1", "mpiwn2", "mpiwn3", "mpiwn4"});
  EXPECT_THAT(
      Hello({"hello", "-n", "16"}, morning),
      ElementsAre(Pair("mpiwn1", 4), Pair("mpiwn2", 4), Pair("mpiwn3", 4), Pair("mpiwn4", 4)));
  for (const char* host : {"mpiwn2", "mpiwn3", "mpiwn4"}) StopWorker(host);
  EXPECT_THAT(cluster_.Ready(), ElementsAre("mpiwn1"));
  EXPECT_THAT(Hello({"hello", "-n", "4"}, morning), ElementsAre(Pair("mpiwn1", 4)));

  // A worker is killed while it runs a job.
  cluster_.Compile("tests/programs/probe.c", "probe");
  Docker({"start", cluster_.Container("mpiwn2")});
  cluster_.AwaitReady({"mpiwn1", "mpiwn2"});
  auto job = cluster_.StartMpilaunch({"-n", "8", "probe", "sleep", "60"});
  for (int rank = 0; rank < 8; ++rank) {
    ASSERT_TRUE(job->AwaitOutput(absl::StrCat("rank ", rank, " sleeps")));
  }
  const absl::Time killed = absl::Now();
  Docker({"kill", cluster_.Container("mpiwn2")});
  const CommandResult lost = job->Finish();
  EXPECT_LT(absl::Now() - killed, absl::Seconds(5));
  EXPECT_EQ(lost.code, 125);
  EXPECT_THAT(lost.err, HasSubstr("worker mpiwn2"));

  // The frontend is started again: its workers come back by themselves.
  Docker({"start", cluster_.Container("mpiwn2")});
  cluster_.AwaitReady({"mpiwn1", "mpiwn2"});
  Docker({"restart", cluster_.Container("mpife")});
  cluster_.AwaitReady({"mpiwn1", "mpiwn2"}, absl::Seconds(5));
  EXPECT_THAT(Hello({"hello", "-n", "8"}, morning),
              ElementsAre(Pair("mpiwn1", 4), Pair("mpiwn2", 4)));
}

}  // namespace
}  // namespace mpilaunch::testing
