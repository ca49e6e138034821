#include "common/sha256.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "tests/unit/trust_testing.h"

namespace mpilaunch {
namespace {

// Known answers from FIPS 180-2.
constexpr char kOfNothing[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kOfAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kOfMillionA[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256Test, KnownAnswers) {
  Sha256 nothing;
  EXPECT_EQ(nothing.Finish(), (FileDigest{kOfNothing, 0}));
  Sha256 pieces;
  pieces.Update("a");
  pieces.Update("");
  pieces.Update("bc");
  EXPECT_EQ(pieces.Finish(), (FileDigest{kOfAbc, 3}));
}

TEST(Sha256Test, FileLargerThanOnePiece) {
  const TemporaryFolder folder;
  Spill(folder / "million", std::string(1000000, 'a'));
  const auto digest = HashFile(folder / "million");
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, (FileDigest{kOfMillionA, 1000000}));
}

TEST(Sha256Test, EmptyFile) {
  const TemporaryFolder folder;
  Spill(folder / "empty", "");
  EXPECT_EQ(HashFile(folder / "empty").value(), (FileDigest{kOfNothing, 0}));
}

TEST(Sha256Test, WhatIsNoFileIsNamed) {
  const TemporaryFolder folder;
  const auto missing = HashFile(folder / "missing");
  EXPECT_TRUE(absl::IsNotFound(missing.status())) << missing.status();
  EXPECT_NE(missing.status().message().find(folder / "missing"), absl::string_view::npos);
  EXPECT_TRUE(absl::IsInvalidArgument(HashFile(folder / "").status()));
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(HashFile(folder / "fifo").status()));  // and does not hang
}

TEST(Sha256Test, ValidatesShape) {
  EXPECT_TRUE(ValidateSha256(kOfAbc).ok());
  const std::string good = kOfAbc;
  for (const std::string& bad :
       {std::string(), good.substr(1), good + "0", "B" + good.substr(1), "g" + good.substr(1),
        "../" + good.substr(3), std::string(64, '\0')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ValidateSha256(bad))) << bad;
  }
}

}  // namespace
}  // namespace mpilaunch
