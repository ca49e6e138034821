// images/compose.yaml, with the old docker-compose (1.29) and with the compose plugin of docker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "support/docker_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::_;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::Pair;
using ::testing::SizeIs;

struct Tool {
  std::string name;
  Words command;

  friend void PrintTo(const Tool& tool, std::ostream* out) { *out << tool.name; }
};

class Compose : public ::testing::TestWithParam<std::tuple<std::string, Tool>> {
 protected:
  void SetUp() override {
    Words version = tool().command;
    version.push_back("version");
    if (RunCommand(version).code != 0) {
      GTEST_SKIP() << absl::StrJoin(tool().command, " ") << " is not installed";
    }
  }
  const std::string& series() const { return std::get<0>(GetParam()); }
  const Tool& tool() const { return std::get<1>(GetParam()); }

  CommandResult Run(const Words& words) {
    Words all = tool().command;
    const Words common = {"--project-name", scope_.project(), "--file",
                          absl::StrCat(MPILAUNCH_SOURCE_DIR, "/images/compose.yaml")};
    all.insert(all.end(), common.begin(), common.end());
    all.insert(all.end(), words.begin(), words.end());
    Command::Options options;
    options.environment = {"MPILAUNCH_SLOTS=4", "OPENMPI=" + ImageTag(series())};
    CommandResult result = RunCommand(all, options);
    EXPECT_EQ(result.code, 0) << absl::StrJoin(all, " ") << "\n" << result.err;
    return result;
  }
  // Ranks per host of a run that must be a good one.
  std::map<std::string, int> Hello(int ranks) {
    return RanksPerHost(
        Run({"exec", "-T", "frontend", "mpilaunch", "hello", "-n", absl::StrCat(ranks)}).out);
  }
  std::string Left(const Words& list) {
    Words words = list;
    const Words filter = {"--quiet", "--filter",
                          "label=com.docker.compose.project=" + scope_.project()};
    words.insert(words.end(), filter.begin(), filter.end());
    return Docker(words);
  }

  DockerScope scope_;
};

std::string Name(const ::testing::TestParamInfo<Compose::ParamType>& info) {
  return absl::StrCat(std::get<1>(info.param).name, "_",
                      SeriesName({std::get<0>(info.param), info.index}));
}

INSTANTIATE_TEST_SUITE_P(
    OpenMpi, Compose,
    ::testing::Combine(BothSeries(), ::testing::Values(Tool{"Old", {"docker-compose"}},
                                                       Tool{"Plugin", {"docker", "compose"}})),
    Name);

TEST_P(Compose, TwoCommandsThenMoreWorkers) {
  Run({"up", "--detach", "--scale", "worker=2"});
  EXPECT_THAT(Hello(8), AllOf(SizeIs(2), Each(Pair(_, 4))));
  Run({"up", "--detach", "--scale", "worker=3"});
  EXPECT_THAT(Hello(12), AllOf(SizeIs(3), Each(Pair(_, 4))));
  Run({"down", "--volumes"});
  EXPECT_EQ(Left({"ps", "--all"}), "");
  EXPECT_EQ(Left({"volume", "ls"}), "");
  EXPECT_EQ(Left({"network", "ls"}), "");
}

}  // namespace
}  // namespace mpilaunch::testing
