#include "common/blob_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>
#include <vector>

#include "common/unique_fd.h"
#include "support/temporary_folder.h"

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kPlenty = 1 << 20;

FileDigest DigestOf(const std::string& contents) {
  Sha256 sha256;
  sha256.Update(contents);
  return sha256.Finish();
}

absl::Status Put(BlobStore& store, const std::string& contents) {
  absl::StatusOr<std::unique_ptr<BlobStore::Writer>> writer = store.NewBlob(DigestOf(contents));
  if (!writer.ok()) return writer.status();
  if (absl::Status status = (*writer)->Write(contents); !status.ok()) return status;
  return (*writer)->Commit();
}

std::vector<std::string> FilesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  return names;
}

mode_t ModeOf(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
}

class BlobStoreTest : public testing::Test {
 protected:
  std::unique_ptr<BlobStore> OpenStore(uint64_t max_bytes = kPlenty) {
    absl::StatusOr<std::unique_ptr<BlobStore>> store = BlobStore::Open(folder_, max_bytes);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }

  TemporaryFolder temporary_;
  const std::string folder_ = temporary_ / "state/blobs";
};

TEST_F(BlobStoreTest, WhatWasPutIsThere) {
  const auto store = OpenStore();
  EXPECT_FALSE(store->Has(DigestOf("hello")));
  ASSERT_TRUE(Put(*store, "hello").ok());
  EXPECT_TRUE(store->Has(DigestOf("hello")));
  const absl::StatusOr<HeldBlob> path = store->Hold(DigestOf("hello"));
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(ReadWhole(**path), "hello");
  EXPECT_EQ(ModeOf(**path), 0400u);
  EXPECT_EQ(ModeOf(folder_), 0700u);
}

TEST_F(BlobStoreTest, TheEmptyFileIsABlob) {
  const auto store = OpenStore();
  ASSERT_TRUE(Put(*store, "").ok());
  EXPECT_TRUE(store->Has(DigestOf("")));
}

TEST_F(BlobStoreTest, ANewStoreFindsWhatTheLastOneHad) {
  ASSERT_TRUE(Put(*OpenStore(), "hello").ok());
  EXPECT_TRUE(OpenStore()->Has(DigestOf("hello")));
}

TEST_F(BlobStoreTest, AnotherSizeIsAnotherBlob) {
  const auto store = OpenStore();
  ASSERT_TRUE(Put(*store, "hello").ok());
  FileDigest digest = DigestOf("hello");
  digest.size = 6;
  EXPECT_FALSE(store->Has(digest));
}

TEST_F(BlobStoreTest, WrongBytesAreRefusedAndLeaveNothing) {
  const auto store = OpenStore();
  {
    const auto writer = store->NewBlob(DigestOf("hello"));
    ASSERT_TRUE((*writer)->Write("jello").ok());
    const absl::Status status = (*writer)->Commit();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(DigestOf("jello").sha256));
  }
  EXPECT_THAT(FilesIn(folder_), IsEmpty());
}

TEST_F(BlobStoreTest, TooFewBytesAreRefused) {
  const auto store = OpenStore();
  const auto writer = store->NewBlob(DigestOf("hello"));
  ASSERT_TRUE((*writer)->Write("hell").ok());
  const absl::Status status = (*writer)->Commit();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_EQ(status.message(), "4 bytes came, 5 were announced");
}

TEST_F(BlobStoreTest, TooManyBytesAreRefusedWhenTheyCome) {
  const auto store = OpenStore();
  const auto writer = store->NewBlob(DigestOf("hello"));
  ASSERT_TRUE((*writer)->Write("hell").ok());
  EXPECT_TRUE(absl::IsDataLoss((*writer)->Write("oo")));
}

TEST_F(BlobStoreTest, AWriterThatIsGivenUpLeavesNothing) {
  const auto store = OpenStore();
  {
    const auto writer = store->NewBlob(DigestOf("hello"));
    ASSERT_TRUE((*writer)->Write("hel").ok());
  }
  EXPECT_THAT(FilesIn(folder_), IsEmpty());
}

TEST_F(BlobStoreTest, WhatAKilledProcessLeftIsRemoved) {
  OpenStore().reset();
  temporary_.Write("state/blobs/.incoming-AAAAAA", "half");
  temporary_.Write("state/blobs/README", "not ours");
  OpenStore();
  EXPECT_THAT(FilesIn(folder_), UnorderedElementsAre("README"));
}

TEST_F(BlobStoreTest, BlobsOfAnEarlierBootAreDropped) {
  ASSERT_TRUE(Put(*OpenStore(), "hello").ok());
  const timespec times[] = {{0, UTIME_OMIT}, {1000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, (folder_ + "/" + DigestOf("hello").sha256).c_str(), times, 0), 0);
  OpenStore();
  EXPECT_THAT(FilesIn(folder_), IsEmpty());
}

TEST_F(BlobStoreTest, ABlobAlteredThroughAHardlinkIsNoLongerThere) {
  const auto store = OpenStore();
  ASSERT_TRUE(Put(*store, "hello").ok());
  ASSERT_TRUE(store->Link(DigestOf("hello"), temporary_ / "hello", true).ok());
  ASSERT_EQ(chmod((temporary_ / "hello").c_str(), 0700), 0);
  temporary_.Write("hello", "HELLO");
  EXPECT_FALSE(store->Has(DigestOf("hello")));
  EXPECT_TRUE(absl::IsNotFound(store->Link(DigestOf("hello"), temporary_ / "again", true)));
}

TEST_F(BlobStoreTest, DigestsAreNoPaths) {
  const auto store = OpenStore();
  for (const std::string& sha256 :
       {std::string("../../etc/passwd"), std::string(""), std::string(64, 'A'),
        std::string(63, 'a') + "/", std::string(65, 'a'), std::string(63, 'a') + '\0'}) {
    EXPECT_FALSE(store->Has({sha256, 0}));
    EXPECT_TRUE(absl::IsInvalidArgument(store->NewBlob({sha256, 0}).status())) << sha256;
    EXPECT_TRUE(absl::IsInvalidArgument(store->Hold({sha256, 0}).status())) << sha256;
    EXPECT_TRUE(absl::IsInvalidArgument(store->Link({sha256, 0}, temporary_ / "x", true)))
        << sha256;
  }
}

TEST_F(BlobStoreTest, ASymlinkInTheFolderIsNoBlob) {
  const auto store = OpenStore();
  ASSERT_EQ(symlink(temporary_.Write("elsewhere", "hello").c_str(),
                    (folder_ + "/" + DigestOf("hello").sha256).c_str()),
            0);
  EXPECT_FALSE(store->Has(DigestOf("hello")));
}

TEST_F(BlobStoreTest, LinkedFilesShareTheBlobAndCanRun) {
  const auto store = OpenStore();
  ASSERT_TRUE(Put(*store, "#!/bin/sh\nexit 7\n").ok());
  const std::string target = temporary_ / "run";
  ASSERT_TRUE(store->Link(DigestOf("#!/bin/sh\nexit 7\n"), target, true).ok());
  EXPECT_EQ(ModeOf(target), 0500u);
  struct stat info {};
  ASSERT_EQ(stat(target.c_str(), &info), 0);
  EXPECT_EQ(info.st_nlink, 2u);
  EXPECT_EQ(WEXITSTATUS(system(target.c_str())), 7);
}

TEST_F(BlobStoreTest, LinkDoesNotReplaceAFile) {
  const auto store = OpenStore();
  ASSERT_TRUE(Put(*store, "hello").ok());
  const std::string target = temporary_.Write("taken", "mine");
  EXPECT_TRUE(absl::IsAlreadyExists(store->Link(DigestOf("hello"), target, false)));
  EXPECT_EQ(ReadWhole(target), "mine");
}

TEST_F(BlobStoreTest, LinkToAnotherFileSystemCopies) {
  const std::string target = "/dev/shm/mpilaunch-blob-" + std::to_string(getpid());
  const auto store = OpenStore();
  struct stat here {};
  struct stat there {};
  ASSERT_EQ(stat(folder_.c_str(), &here), 0);
  if (stat("/dev/shm", &there) != 0 || here.st_dev == there.st_dev)
    GTEST_SKIP() << "no second file system";
  const std::string contents(300000, 'x');
  ASSERT_TRUE(Put(*store, contents).ok());
  const absl::Status status = store->Link(DigestOf(contents), target, true);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(ReadWhole(target), contents);
  EXPECT_EQ(ModeOf(target), 0500u);
  unlink(target.c_str());
}

TEST_F(BlobStoreTest, TwoPushesOfTheSameFileBothSucceed) {
  const auto store = OpenStore();
  const std::string contents(100000, 'x');
  std::vector<std::thread> threads;
  std::vector<absl::Status> statuses(8);
  for (absl::Status& status : statuses) {
    threads.emplace_back([&] { status = Put(*store, contents); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(FilesIn(folder_), UnorderedElementsAre(DigestOf(contents).sha256));
}

TEST_F(BlobStoreTest, TheLeastRecentlyUsedBlobMakesRoom) {
  const auto store = OpenStore(30);
  for (const char* contents : {"aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"})
    ASSERT_TRUE(Put(*store, contents).ok());
  EXPECT_TRUE(store->Has(DigestOf("aaaaaaaaaa")));
  ASSERT_TRUE(Put(*store, "dddddddddd").ok());
  EXPECT_TRUE(store->Has(DigestOf("aaaaaaaaaa")));
  EXPECT_FALSE(store->Has(DigestOf("bbbbbbbbbb")));
  EXPECT_TRUE(store->Has(DigestOf("cccccccccc")));
  EXPECT_TRUE(store->Has(DigestOf("dddddddddd")));
}

TEST_F(BlobStoreTest, ABlobInUseIsNotDropped) {
  const auto store = OpenStore(20);
  ASSERT_TRUE(Put(*store, "aaaaaaaaaa").ok());
  ASSERT_TRUE(store->Link(DigestOf("aaaaaaaaaa"), temporary_ / "a", true).ok());
  ASSERT_TRUE(Put(*store, "bbbbbbbbbb").ok());
  ASSERT_TRUE(Put(*store, "cccccccccc").ok());
  EXPECT_TRUE(store->Has(DigestOf("aaaaaaaaaa")));
  EXPECT_FALSE(store->Has(DigestOf("bbbbbbbbbb")));
}

TEST_F(BlobStoreTest, ABlobThatIsHeldIsNotDropped) {
  const auto store = OpenStore(10);
  ASSERT_TRUE(Put(*store, "aaaaaa").ok());
  HeldBlob once = store->Hold(DigestOf("aaaaaa")).value();
  HeldBlob twice = store->Hold(DigestOf("aaaaaa")).value();
  EXPECT_TRUE(absl::IsResourceExhausted(Put(*store, "bbbbbb")));
  once.reset();
  EXPECT_TRUE(absl::IsResourceExhausted(Put(*store, "bbbbbb")));
  EXPECT_EQ(ReadWhole(*twice), "aaaaaa");
  twice.reset();
  EXPECT_TRUE(Put(*store, "bbbbbb").ok());
  EXPECT_FALSE(store->Has(DigestOf("aaaaaa")));
}

TEST_F(BlobStoreTest, AStoreFullOfBlobsInUseSaysSo) {
  const auto store = OpenStore(15);
  ASSERT_TRUE(Put(*store, "aaaaaaaaaa").ok());
  ASSERT_TRUE(store->Link(DigestOf("aaaaaaaaaa"), temporary_ / "a", true).ok());
  const absl::Status status = Put(*store, "bbbbbbbbbb");
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(
      status.message(),
      "no room for a file of 10 bytes in " + folder_ +
          ": it may hold 15 bytes, 10 bytes are in use by running jobs and 0 bytes are arriving");
}

TEST_F(BlobStoreTest, AFileLargerThanTheStoreIsRefusedBeforeItComes) {
  const auto store = OpenStore(10);
  const absl::Status status = store->NewBlob({std::string(64, 'a'), ~0ull}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("may hold, 10 bytes"));
}

TEST_F(BlobStoreTest, ArrivingBlobsHoldTheirRoomUntilTheyAreGivenUp) {
  const auto store = OpenStore(15);
  auto arriving = store->NewBlob(DigestOf("aaaaaaaaaa"));
  ASSERT_TRUE(arriving.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Put(*store, "bbbbbbbbbb")));
  arriving->reset();
  EXPECT_TRUE(Put(*store, "bbbbbbbbbb").ok());
}

TEST_F(BlobStoreTest, OneProcessAtATime) {
  const auto store = OpenStore();
  const absl::Status status = BlobStore::Open(folder_, kPlenty).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder_));
}

TEST_F(BlobStoreTest, AFolderThatOthersMayWriteToIsRefused) {
  const std::string open_to_all = temporary_ / "open";
  ASSERT_TRUE(std::filesystem::create_directory(open_to_all));
  ASSERT_EQ(chmod(open_to_all.c_str(), 01777), 0);
  const absl::Status status = BlobStore::Open(open_to_all, kPlenty).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("written to by other users"));
  EXPECT_EQ(ModeOf(open_to_all), 01777u);
}

TEST_F(BlobStoreTest, ASymlinkAsFolderIsRefused) {
  ASSERT_EQ(symlink(temporary_.path().c_str(), (temporary_ / "link").c_str()), 0);
  const absl::Status status = BlobStore::Open(temporary_ / "link", kPlenty).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

// A file system of 1 MiB in a mount namespace of this test's own process; an ordinary user needs a
// user namespace for that, in which he stays who he is.
class FullDiskTest : public BlobStoreTest {
 protected:
  void SetUp() override {
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    if (unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)) != 0) {
      GTEST_SKIP() << "no mount namespace here";
    }
    if (uid != 0) {
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/uid_map") << uid << " " << uid << " 1";
      std::ofstream("/proc/self/gid_map") << gid << " " << gid << " 1";
    }
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", temporary_.path().c_str(), "tmpfs", 0, "size=1m,mode=700") != 0) {
      GTEST_SKIP() << "no mounts here";
    }
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) umount2(temporary_.path().c_str(), MNT_DETACH);
  }
  bool mounted_ = false;
};

TEST_F(FullDiskTest, SaysSoBeforeTheBytesTravel) {
  const auto store = OpenStore(1 << 30);
  const absl::Status status = store->NewBlob({std::string(64, 'a'), 2 << 20}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("no room on the disk for a file of 2.0 MiB in " + folder_));
  EXPECT_THAT(std::string(status.message()), HasSubstr("free"));
  EXPECT_THAT(FilesIn(folder_), IsEmpty());
}

TEST_F(FullDiskTest, UnusedBlobsMakeRoom) {
  const auto store = OpenStore(1 << 30);
  const std::string old(600000, 'o');
  const std::string fresh(600000, 'f');
  ASSERT_TRUE(Put(*store, old).ok());
  const absl::Status status = Put(*store, fresh);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_FALSE(store->Has(DigestOf(old)));
  EXPECT_TRUE(store->Has(DigestOf(fresh)));
}

}  // namespace
}  // namespace mpilaunch
