// Workers from images that were not made here, and clusters of unequal workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "support/docker_cluster.h"
#include "support/temporary_folder.h"

namespace mpilaunch::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr char kInstall[] = "RUN apt-get update && apt-get install -y --no-install-recommends ";

class OtherImages : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(OpenMpi, OtherImages, BothSeries(), SeriesName);

TEST_P(OtherImages, OneLineLetsAnyImageJoin) {
  DockerCluster cluster(GetParam());
  const std::string debian = GetParam() == kOpenMpi4 ? "bookworm" : "trixie";
  const std::string image = cluster.scope().Build(
      "stranger", absl::StrCat("FROM debian:", debian, "-20260518-slim\n", kInstall,
                               "openmpi-bin\n", "COPY --from=", WorkerImage(GetParam()),
                               " /usr/local/bin/mpilaunch-agent /usr/local/bin/\n",
                               "ENTRYPOINT [\"mpilaunch-agent\"]\n"));
  cluster.StartWorker("stranger", {.docker = {"--env", "MPILAUNCH_SLOTS=4", "--env",
                                              "MPILAUNCH_JOIN_BUNDLE=/run/join/worker.json"},
                                   .image = image});
  cluster.AwaitReady({"stranger"});
  const CommandResult result = cluster.Mpilaunch({"hello", "-n", "4"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(RanksPerHost(result.out), ElementsAre(Pair("stranger", 4)));
}

TEST_P(OtherImages, PythonProgramIsPushedWithItsScript) {
  DockerCluster cluster(GetParam());
  const std::string image = cluster.scope().Build(
      "python", absl::StrCat("FROM ", WorkerImage(GetParam()), "\nUSER root\n", kInstall,
                             "python3-mpi4py\nUSER 1000:1000\n"));
  for (const char* host : {"mpiwn1", "mpiwn2"}) {
    cluster.StartWorker(host, {.docker = {"--env", "MPILAUNCH_SLOTS=2"}, .image = image});
  }
  cluster.AwaitReady({"mpiwn1", "mpiwn2"});
  ASSERT_NE(cluster.Exec("mpife", {"sh", "-c", "command -v python3"}).code, 0);
  cluster.WriteFile("ring.py", ReadWhole(absl::StrCat(MPILAUNCH_SOURCE_DIR, "/examples/ring.py")));
  const CommandResult result =
      cluster.Mpilaunch({"-n", "4", "--stage", "ring.py", "python3", "ring.py"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, "ring of 4 ranks: the sum of all ranks is 6\n");
}

// The frontend's own series decides which part of the cluster a job can run on.
TEST_P(OtherImages, JobThatNeedsWorkersOfBothSeriesIsRefused) {
  DockerCluster cluster(GetParam());
  const std::string matching = GetParam() == kOpenMpi4 ? "four" : "five";
  for (const auto& [host, series] : {std::pair("four", kOpenMpi4), std::pair("five", kOpenMpi5)}) {
    cluster.StartWorker(host,
                        {.docker = {"--env", "MPILAUNCH_SLOTS=4"}, .image = WorkerImage(series)});
  }
  cluster.AwaitReady({"five", "four"});
  const CommandResult refused = cluster.Mpilaunch({"hello", "-n", "8"});
  EXPECT_EQ(refused.code, 125);
  EXPECT_EQ(refused.out, "");
  EXPECT_THAT(refused.err, AllOf(HasSubstr("four"), HasSubstr("five")));
  EXPECT_THAT(refused.err, AllOf(HasSubstr("4.1."), HasSubstr("5.0.")));

  const CommandResult fits = cluster.Mpilaunch({"hello", "-n", "4"});
  EXPECT_EQ(fits.code, 0);
  EXPECT_EQ(fits.err, "");
  EXPECT_THAT(RanksPerHost(fits.out), ElementsAre(Pair(matching, 4)));
}

}  // namespace
}  // namespace mpilaunch::testing
