#include "common/staged_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;

google::protobuf::RepeatedPtrField<v1::StagedFile> Files(const std::vector<std::string>& names) {
  google::protobuf::RepeatedPtrField<v1::StagedFile> files;
  for (const std::string& name : names) {
    v1::StagedFile* file = files.Add();
    file->set_name(name);
    file->set_sha256(std::string(64, 'a'));
  }
  return files;
}

TEST(StagedFilesTest, PathsThatStayInside) {
  for (const std::string& path :
       {std::string("a"), std::string("a/b/c"), std::string("..a/b.."), std::string(".hidden/x"),
        std::string("a b/\n"), std::string("...")}) {
    EXPECT_TRUE(ValidateRelativePath(path).ok()) << path;
  }
}

TEST(StagedFilesTest, PathsThatLeadOutOrAreOdd) {
  for (const std::string& path :
       {std::string(""), std::string("/"), std::string("/a"), std::string("//a"), std::string("."),
        std::string(".."), std::string("../a"), std::string("a/../b"), std::string("a/.."),
        std::string("./a"), std::string("a/."), std::string("a//b"), std::string("a/"),
        std::string("a\0/b", 4), std::string(256, 'a'),
        absl::StrCat("a/", std::string(256, 'b'))}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ValidateRelativePath(path))) << path;
  }
  std::string deep = "a";
  while (deep.size() < 1023) deep += "/a";
  EXPECT_TRUE(ValidateRelativePath(deep).ok());
  EXPECT_FALSE(ValidateRelativePath(deep + "/a").ok());
}

TEST(StagedFilesTest, NamesMustFitTogether) {
  EXPECT_TRUE(ValidateStagedFiles(Files({"a", "b/a", "b/c/a", "a.b"})).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateStagedFiles(Files({"b/a", "b/a"}))));
  for (const auto& names : {Files({"a", "a/b/c"}), Files({"a/b/c", "a/b"})}) {
    const absl::Status status = ValidateStagedFiles(names);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("would lie in it"));
  }
  auto folder_first = Files({"a", "a/b"});
  folder_first.Mutable(0)->clear_sha256();
  folder_first.Mutable(0)->set_folder(true);
  EXPECT_TRUE(ValidateStagedFiles(folder_first).ok());
}

TEST(StagedFilesTest, TheListIsBounded) {
  std::vector<std::string> names;
  for (int i = 0; i < kMaxStagedFiles; ++i) names.push_back(absl::StrCat(i));
  EXPECT_TRUE(ValidateStagedFiles(Files(names)).ok());
  names.push_back("one more");
  EXPECT_FALSE(ValidateStagedFiles(Files(names)).ok());
  names.resize(2000);
  for (std::string& name : names) name.append("/").append(200, 'a').append("/").append(200, 'b');
  EXPECT_TRUE(ValidateStagedFiles(Files(names)).ok());
  for (std::string& name : names) name.append("/").append(200, 'c');
  EXPECT_FALSE(ValidateStagedFiles(Files(names)).ok());
}

TEST(StagedFilesTest, DigestsAreChecked) {
  auto files = Files({"a"});
  files.Mutable(0)->set_sha256("../x");
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateStagedFiles(files)));
}

}  // namespace
}  // namespace mpilaunch
