// How little the containers need.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "absl/strings/str_cat.h"
#include "support/docker_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

class Images : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(OpenMpi, Images, BothSeries(), SeriesName);

TEST_P(Images, HaveNoSshAndAnOrdinaryUser) {
  for (const std::string& image : {FrontendImage(GetParam()), WorkerImage(GetParam())}) {
    const std::string script =
        "dpkg -l | grep -c openssh; command -v ssh sshd rsh; id -u; grep CapEff /proc/self/status";
    const std::string seen = Docker({"run", "--rm", "--entrypoint", "sh", image, "-c", script});
    EXPECT_EQ(seen, "0\n1000\nCapEff:\t0000000000000000") << image;
  }
}

struct Restriction {
  std::string name;
  Words options;

  friend void PrintTo(const Restriction& restriction, std::ostream* out) {
    *out << restriction.name;
  }
};

class Restricted : public ::testing::TestWithParam<std::tuple<std::string, Restriction>> {};

const Words kOtherUser = {"--user", "4242:4242"};  // /etc/passwd does not know it
// Docker mounts a tmpfs noexec, and programs are started from below /tmp.
const Words kReadOnly = {"--read-only", "--tmpfs", "/tmp:exec", "--tmpfs", "/var/lib/mpilaunch"};
const Words kNoCapabilities = {"--cap-drop", "ALL"};
const Words kNoNewPrivileges = {"--security-opt", "no-new-privileges"};

Words All() {
  Words all;
  for (const Words& words : {kOtherUser, kReadOnly, kNoCapabilities, kNoNewPrivileges}) {
    all.insert(all.end(), words.begin(), words.end());
  }
  return all;
}

std::string Name(const ::testing::TestParamInfo<Restricted::ParamType>& info) {
  return absl::StrCat(std::get<1>(info.param).name, "_",
                      SeriesName({std::get<0>(info.param), info.index}));
}

INSTANTIATE_TEST_SUITE_P(OpenMpi, Restricted,
                         ::testing::Combine(BothSeries(),
                                            ::testing::Values(Restriction{"OtherUser", kOtherUser},
                                                              Restriction{"ReadOnly", kReadOnly},
                                                              Restriction{"All", All()})),
                         Name);

TEST_P(Restricted, ClusterRunsEightRanks) {
  const auto& [series, restriction] = GetParam();
  DockerCluster cluster(series, restriction.options);
  cluster.StartWorkers(2);
  const CommandResult result = cluster.Mpilaunch({"hello", "-n", "8"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(RanksPerHost(result.out), ElementsAre(Pair("mpiwn1", 4), Pair("mpiwn2", 4)));
}

}  // namespace
}  // namespace mpilaunch::testing
