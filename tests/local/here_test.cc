// --here: the frontend's own slots, with real Open MPI.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "support/mpi_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class HereTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { cluster_ = std::make_unique<MpiCluster>(1, 2); }
  static void TearDownTestSuite() { cluster_.reset(); }
  static std::unique_ptr<MpiCluster> cluster_;
};
std::unique_ptr<MpiCluster> HereTest::cluster_;

TEST_F(HereTest, RanksRunInTheFrontend) {
  const CommandResult here = cluster_->Mpilaunch({"hello", "--here", "-n", "4"});
  EXPECT_EQ(here.code, 0) << here.err;
  EXPECT_THAT(Lines(here.out), AllOf(SizeIs(4), Each(HasSubstr("on host frontend"))));
  const CommandResult workers = cluster_->Mpilaunch({"hello", "-n", "2"});
  EXPECT_THAT(Lines(workers.out), AllOf(SizeIs(2), Each(HasSubstr("on host w1")))) << workers.err;
}

TEST_F(HereTest, TheFrontendIsNoWorkerOfTheOthers) {
  EXPECT_EQ(cluster_->Mpilaunch({"hello", "--here", "-n", "1"}).code, 0);
  EXPECT_THAT(cluster_->Mpilaunch({"workers"}).out, Not(HasSubstr("here")));
  EXPECT_THAT(cluster_->Mpilaunch({"hello", "-n", "3"}).err, HasSubstr("2 slots"));
}

TEST_F(HereTest, ProgramsExitCodeAndInputPass) {
  Command::Options options;
  options.input = "x\n";
  const CommandResult result = cluster_->Mpilaunch(
      {"--here", "-n", "1", "sh", "-c", "read a; echo got $a; exit 7"}, options);
  EXPECT_EQ(result.code, 7) << result.err;
  EXPECT_THAT(result.out, HasSubstr("got x"));
}

}  // namespace
}  // namespace mpilaunch::testing
