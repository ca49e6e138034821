#include "launcher/local_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/unique_fd.h"
#include "support/temporary_folder.h"

namespace mpilaunch {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// In a current folder of its own, inside of one where files may lie outside of it.
class LocalFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(temporary_ / "here");
    std::filesystem::current_path(temporary_ / "here");
    program_.staged.set_name("tool");
  }
  void TearDown() override { std::filesystem::current_path("/"); }

  static void Write(const std::string& path, const std::string& contents = "x",
                    mode_t mode = 0644) {
    if (const auto folder = std::filesystem::path(path).parent_path(); !folder.empty())
      std::filesystem::create_directories(folder);
    std::ofstream(path) << contents;
    chmod(path.c_str(), mode);
  }

  // "name" of files, "name/" of folders, sorted.
  std::vector<std::string> Names(const std::vector<std::string>& typed) const {
    const auto files = FindStagedFiles(typed, program_);
    EXPECT_TRUE(files.ok()) << files.status();
    std::vector<std::string> names;
    if (!files.ok()) return names;
    for (const LocalFile& file : *files)
      names.push_back(absl::StrCat(file.staged.name(), file.staged.folder() ? "/" : ""));
    return names;
  }

  std::string Refused(const std::vector<std::string>& typed) const {
    const absl::Status status = FindStagedFiles(typed, program_).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  }

  TemporaryFolder temporary_;
  LocalFile program_;
};

TEST_F(LocalFilesTest, AFileLiesUnderThePathAsTyped) {
  Write("ring.py");
  Write("data/deep/in.txt");
  EXPECT_THAT(Names({"ring.py"}), ElementsAre("ring.py"));
  EXPECT_THAT(Names({"./ring.py"}), ElementsAre("ring.py"));
  EXPECT_THAT(Names({"data/deep/in.txt"}), ElementsAre("data/deep/in.txt"));
  EXPECT_THAT(Names({".//data/./deep//in.txt"}), ElementsAre("data/deep/in.txt"));
}

TEST_F(LocalFilesTest, PathsThatLeadOutKeepTheirLastComponent) {
  Write("../far/in.txt");
  EXPECT_THAT(Names({"../far/in.txt"}), ElementsAre("in.txt"));
  EXPECT_THAT(Names({temporary_ / "far/in.txt"}), ElementsAre("in.txt"));
  EXPECT_THAT(Names({"../far/"}), ElementsAre("far/", "far/in.txt"));
  EXPECT_THAT(Names({temporary_ / "far"}), ElementsAre("far/", "far/in.txt"));
}

TEST_F(LocalFilesTest, AFolderGoesWithAllThatIsInIt) {
  Write("data/a");
  Write("data/deep/b", "x", 0755);
  std::filesystem::create_directory("data/empty");
  EXPECT_THAT(Names({"data"}),
              ElementsAre("data/", "data/a", "data/deep/", "data/deep/b", "data/empty/"));
  EXPECT_THAT(Names({"data/"}), Names({"data"}));
  EXPECT_THAT(Names({"."}), Names({"data"}));
  EXPECT_THAT(Names({"data", "data/deep", "data/a"}), Names({"data"}));
}

TEST_F(LocalFilesTest, DigestAndModeAreTheFiles) {
  Write("run.sh", "hello", 0755);
  Write("data", "", 0444);
  const auto files = FindStagedFiles({"run.sh", "data"}, program_);
  ASSERT_TRUE(files.ok() && files->size() == 2) << files.status();
  const v1::StagedFile& data = files->front().staged;
  const v1::StagedFile& script = files->back().staged;
  EXPECT_FALSE(data.executable());
  EXPECT_EQ(data.size(), 0u);
  EXPECT_TRUE(script.executable());
  EXPECT_EQ(script.size(), 5u);
  EXPECT_EQ(script.sha256(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
}

TEST_F(LocalFilesTest, SymlinksAreFollowed) {
  Write("../far/in.txt", "abc");
  ASSERT_EQ(symlink("../far/in.txt", "link"), 0);
  ASSERT_EQ(symlink("../far", "linked"), 0);
  EXPECT_THAT(Names({"link", "linked"}), ElementsAre("link", "linked/", "linked/in.txt"));
  EXPECT_EQ(FindStagedFiles({"link"}, program_)->front().staged.size(), 3u);
}

TEST_F(LocalFilesTest, SymlinksThatLeadNowhereOrRoundAreRefused) {
  ASSERT_EQ(symlink("gone", "dangling"), 0);
  EXPECT_THAT(Refused({"dangling"}),
              AllOf(HasSubstr("dangling"), HasSubstr("symlink to a file that does not exist")));
  ASSERT_EQ(symlink("self", "self"), 0);
  EXPECT_THAT(Refused({"self"}), HasSubstr("self"));
  Write("data/deep/a");
  ASSERT_EQ(symlink("..", "data/deep/up"), 0);
  EXPECT_THAT(Refused({"data"}), AllOf(HasSubstr("data/deep/up"), HasSubstr("leads back")));
}

TEST_F(LocalFilesTest, WhatIsNoFileIsRefused) {
  EXPECT_THAT(Refused({"gone.py"}), HasSubstr("--stage gone.py: no such file"));
  EXPECT_THAT(Refused({"/dev/null"}), HasSubstr("neither a file nor a folder"));
  ASSERT_EQ(mkfifo("pipe", 0600), 0);
  EXPECT_THAT(Refused({"pipe"}), HasSubstr("neither a file nor a folder"));
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {AF_UNIX, "socket"};
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_THAT(Refused({"."}), HasSubstr("neither a file nor a folder"));
}

TEST_F(LocalFilesTest, PathsWithoutANameAreRefused) {
  for (const char* typed : {"", "/", "..", "../..", "../"})
    EXPECT_THAT(Refused({typed}), HasSubstr(absl::StrCat("--stage ", typed, ": "))) << typed;
}

TEST_F(LocalFilesTest, TwoFilesOfOneNameAreRefused) {
  Write("in.txt", "1");
  Write("../far/in.txt", "2");
  EXPECT_THAT(Refused({"in.txt", "../far/in.txt"}),
              AllOf(HasSubstr("../far/in.txt"), HasSubstr("would be in.txt")));
  EXPECT_THAT(Names({"in.txt", "./in.txt"}), ElementsAre("in.txt"));
  Write("../near/in.txt/deep");
  EXPECT_THAT(Refused({"in.txt", "../near/in.txt"}), HasSubstr("would be in.txt"));
}

TEST_F(LocalFilesTest, AFileOfTheProgramsNameIsRefusedUnlessItIsTheProgram) {
  Write("hello", "#!/bin/sh\n", 0755);
  Write("../far/hello", "other");
  Write("../far/tool", "x", 0755);
  EXPECT_THAT(Refused({"../far/tool"}), HasSubstr("mpilaunch ../far/tool"));  // program_ is tool
  auto program = FindLocalProgram("hello");
  ASSERT_TRUE(program.ok()) << program.status();
  program_ = *std::move(program);
  EXPECT_THAT(Names({"hello"}), IsEmpty());
  EXPECT_THAT(Names({"."}), IsEmpty());
  EXPECT_THAT(Refused({"../far/hello"}), HasSubstr("is called hello, too"));
  Write("../near/hello/deep");
  EXPECT_THAT(Refused({"../near/hello"}), HasSubstr("hello"));
}

TEST_F(LocalFilesTest, ArgumentsThatAreFilesAndWereNotStaged) {
  Write("a");
  Write("data/b");
  Write("../c");
  const auto staged = FindStagedFiles({"data"}, program_);
  ASSERT_TRUE(staged.ok());
  EXPECT_THAT(
      NotStaged({"a", "./data/b", "gone", "data", "../c", "-v", temporary_ / "here/a"}, *staged),
      ElementsAre("a"));
}

TEST_F(LocalFilesTest, TooManyFilesAreRefused) {
  for (int i = 0; i < 4200; ++i) Write(absl::StrCat("many/", i), "");
  EXPECT_THAT(Refused({"many"}), AllOf(HasSubstr("more than 4095"), HasSubstr("archive")));
}

TEST_F(LocalFilesTest, FilesThatMayNotBeReadAreNamed) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  Write("secret", "x", 0);
  EXPECT_THAT(Refused({"secret"}), HasSubstr("secret"));
}

TEST_F(LocalFilesTest, AProgramIsAFileHereOrOneOfTheWorkers) {
  Write("hello", "x", 0755);
  Write("plain", "x", 0644);
  std::filesystem::create_directory("folder");
  setenv("PATH", temporary_.path().c_str(), 1);
  Write("../in_path", "x", 0755);
  EXPECT_EQ(FindLocalProgram("hello")->path, "./hello");
  EXPECT_EQ(FindLocalProgram("hello")->staged.size(), 1u);
  EXPECT_EQ(FindLocalProgram("../in_path")->staged.name(), "in_path");
  for (const char* name : {"in_path", "folder", "nowhere"}) {
    const auto program = FindLocalProgram(name);
    ASSERT_TRUE(program.ok()) << program.status();
    EXPECT_EQ(program->path, "") << name;
    EXPECT_EQ(program->staged.name(), name);
  }
  EXPECT_TRUE(absl::IsPermissionDenied(FindLocalProgram("plain").status()));
  EXPECT_TRUE(absl::IsPermissionDenied(FindLocalProgram("./folder").status()));
  EXPECT_TRUE(absl::IsNotFound(FindLocalProgram("./nowhere").status()));
}

}  // namespace
}  // namespace mpilaunch
