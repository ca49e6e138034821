// --here: the frontend's own slots, with real Open MPI.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/mpi_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

size_t Count(const std::string& text, const std::string& word) {
  size_t count = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

class HereTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { cluster_ = new MpiCluster(1, 2); }
  static void TearDownTestSuite() {
    delete cluster_;
    cluster_ = nullptr;
  }
  static MpiCluster* cluster_;
};
MpiCluster* HereTest::cluster_ = nullptr;

TEST_F(HereTest, RanksRunInTheFrontend) {
  const CommandResult here = cluster_->Mpilaunch({"hello", "--here", "-n", "4"});
  EXPECT_EQ(here.code, 0) << here.err;
  EXPECT_EQ(Count(here.out, "on host frontend"), 4u) << here.out;
  const CommandResult workers = cluster_->Mpilaunch({"hello", "-n", "2"});
  EXPECT_EQ(Count(workers.out, "on host w1"), 2u) << workers.out << workers.err;
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
