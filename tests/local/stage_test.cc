// --stage and programs of the workers, over real Open MPI: two workers, each with a /tmp of its
// own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "support/mpi_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class StageFiles : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { cluster_ = std::make_unique<MpiCluster>(2, 2); }
  static void TearDownTestSuite() { cluster_.reset(); }

  static CommandResult Mpilaunch(const std::vector<std::string>& arguments) {
    return cluster_->Mpilaunch(arguments);
  }
  static void Write(const std::string& name, const std::string& contents, mode_t mode = 0644) {
    const std::filesystem::path path = cluster_->folder() + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << contents;
    chmod(path.c_str(), mode);
  }

  static std::unique_ptr<MpiCluster> cluster_;
};
std::unique_ptr<MpiCluster> StageFiles::cluster_;

TEST_F(StageFiles, TheWorkersProgramReadsAFileOfOurs) {
  Write("ring.sh", "echo \"$1 on $(hostname)\"\n");
  for (const std::vector<std::string>& line :
       {std::vector<std::string>{"-n", "2", "--stage", "ring.sh", "sh", "ring.sh", "hello"},
        {"sh", "-n", "2", "--stage", "ring.sh", "--", "ring.sh", "hello"}}) {
    const CommandResult result = Mpilaunch(line);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(Lines(result.out), UnorderedElementsAre("hello on w1", "hello on w2"));
    EXPECT_THAT(result.err, IsEmpty());
  }
}

TEST_F(StageFiles, AProgramOfTheWorkersNeedsNoFile) {
  const CommandResult result = Mpilaunch({"hostname", "-n", "2"});
  EXPECT_THAT(Lines(result.out), UnorderedElementsAre("w1", "w2")) << result.err;
}

TEST_F(StageFiles, FoldersKeepTheirShapeAndModes) {
  Write("tree/deep/in.txt", "text\n");
  Write("tree/deep/run.sh", "#!/bin/sh\ncat tree/deep/in.txt\n", 0755);
  std::filesystem::create_directories(cluster_->folder() + "/tree/empty");
  const CommandResult result = Mpilaunch(
      {"-n", "2", "--stage", "tree", "sh", "-c",
       "tree/deep/run.sh && test ! -x tree/deep/in.txt -o $(id -u) = 0 && rmdir tree/empty "
       "&& touch tree/deep/new"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(Lines(result.out), ElementsAre("text", "text"));
}

TEST_F(StageFiles, WithAProgramOfOurs) {
  Write("input", "from rank 0\n");
  Write("reader", "#!/bin/sh\ncat input\n", 0755);
  const CommandResult result = Mpilaunch({"reader", "-n", "2", "--stage", "input"});
  EXPECT_THAT(Lines(result.out), ElementsAre("from rank 0", "from rank 0")) << result.err;
}

TEST_F(StageFiles, WhatIsUnchangedIsNotPushedAgain) {
  const std::string large(20 << 20, 'x');  // large enough to be told about
  Write("large", large + "1");
  const std::vector<std::string> line = {"-n", "2", "--stage", "large", "wc", "-c", "large"};
  const CommandResult first = Mpilaunch(line);
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.err, AllOf(HasSubstr("pushing large (20971521 bytes) to w1, 1 of 2"),
                               HasSubstr("to w2, 2 of 2")));
  const CommandResult second = Mpilaunch(line);
  EXPECT_EQ(second.out, first.out);
  EXPECT_THAT(second.err, IsEmpty());
  Write("large", large + "2");
  EXPECT_THAT(Mpilaunch(line).err, HasSubstr("pushing large"));
}

TEST_F(StageFiles, AFileThatWasForgottenIsSuggested) {
  Write("forgotten", "exit 3\n");
  EXPECT_THAT(Mpilaunch({"-n", "2", "sh", "forgotten"}).err,
              HasSubstr("--stage forgotten pushes it"));
  const CommandResult staged = Mpilaunch({"-n", "2", "--stage", "forgotten", "sh", "./forgotten"});
  EXPECT_EQ(staged.code, 3);
  EXPECT_THAT(staged.err, Not(HasSubstr("--stage")));
  EXPECT_THAT(Mpilaunch({"-n", "2", "echo", "forgotten"}).err, IsEmpty());
}

TEST_F(StageFiles, WhatCannotBeStagedIsSaidAtOnce) {
  const CommandResult result = Mpilaunch({"-n", "2", "--stage", "gone.py", "python3", "gone.py"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("--stage gone.py: no such file or folder here"));
}

TEST_F(StageFiles, AProgramThatOneWorkerLacks) {
  // Each worker has a /tmp of its own.
  const CommandResult made =
      Mpilaunch({"-n", "1", "sh", "-c", "mkdir /tmp/only && cp /bin/hostname /tmp/only/rarity"});
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string path = "PATH=/tmp/only:/usr/bin:/bin";
  const CommandResult alone = Mpilaunch({"-n", "1", "-x", path, "rarity"});
  EXPECT_EQ(alone.out, "w1\n") << alone.err;
  const CommandResult both = Mpilaunch({"-n", "2", "-x", path, "rarity"});
  EXPECT_EQ(both.code, 127);
  EXPECT_THAT(both.out, IsEmpty());
  EXPECT_THAT(both.err,
              AllOf(HasSubstr("worker w2: rarity: not found in the PATH here (/tmp/only:"),
                    Not(HasSubstr("w1"))));
  const CommandResult neither = Mpilaunch({"-n", "2", "rarity"});
  EXPECT_EQ(neither.code, 127);
  EXPECT_THAT(neither.err, AllOf(HasSubstr("worker w1"), HasSubstr("worker w2"),
                                 HasSubstr("rarity is no file in the folder")));
}

TEST_F(StageFiles, AScriptForAnInterpreterOfTheRanksPath) {
  Write("odd", "#!/usr/bin/env oddity\n", 0755);
  const CommandResult made =
      Mpilaunch({"-n", "2", "sh", "-c", "mkdir -p /tmp/odd && cp /bin/cat /tmp/odd/oddity"});
  ASSERT_EQ(made.code, 0) << made.err;
  const CommandResult result = Mpilaunch({"-n", "2", "-x", "PATH=/tmp/odd:/usr/bin:/bin", "./odd"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(Lines(result.out), ElementsAre("#!/usr/bin/env oddity", "#!/usr/bin/env oddity"));
}

}  // namespace
}  // namespace mpilaunch::testing
