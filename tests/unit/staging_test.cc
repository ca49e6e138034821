#include "agent/staging.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/program_path.h"
#include "common/run_program.h"
#include "support/temporary_folder.h"

namespace mpilaunch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr char kScript[] = "#!/bin/sh\nexit 7\n";

// One loop per process, and the tests run one after the other.
InitLoop& Init() {
  static InitLoop* const init = InitLoop::Start([](int) {})->release();
  return *init;
}

// system() would wait for a child that the init loop reaps.
int Shell(const std::string& command) {
  const auto result =
      RunProgram(Init(), {"/bin/sh", "-c", command}, CurrentEnvironment(), absl::Minutes(1));
  EXPECT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->stderr_text, "") << command;
  return result->exit.code;
}

FileDigest DigestOf(const std::string& contents) {
  Sha256 sha256;
  sha256.Update(contents);
  return sha256.Finish();
}

std::vector<std::string> FilesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  return names;
}

mode_t ModeOf(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
}

class StagingTest : public testing::Test {
 protected:
  void SetUp() override {
    blobs_ = BlobStore::Open(temporary_ / "store", 1 << 30).value();
    OpenStaging();
  }

  void OpenStaging() {
    staging_.reset();
    auto staging = Staging::Open({job_root_, blobs_.get(), &Init()});
    ASSERT_TRUE(staging.ok()) << staging.status();
    staging_ = *std::move(staging);
  }

  // A request for one program, whose bytes are in the store.
  v1::StageRequest Program(const std::string& contents, const std::string& job = "17") {
    const FileDigest digest = DigestOf(contents);
    auto writer = blobs_->NewBlob(digest);
    EXPECT_TRUE(writer.ok() && (*writer)->Write(contents).ok() && (*writer)->Commit().ok());
    v1::StageRequest request;
    request.set_job(job);
    request.set_program("hello");
    v1::StagedFile& file = *request.add_files();
    file.set_name("hello");
    file.set_sha256(digest.sha256);
    file.set_size(digest.size);
    file.set_executable(true);
    return request;
  }

  // Compiles in the test's folder; `command` is what follows "cc".
  std::string Compile(const std::string& source, const std::string& command,
                      const std::string& output) {
    temporary_.Write("source.c", source);
    const std::string line =
        absl::StrCat("cd ", temporary_.path(), " && cc source.c -o ", output, " ", command);
    EXPECT_EQ(Shell(line), 0) << line;
    return ReadWhole(temporary_ / output);
  }

  // The complaint about what cannot start here.
  std::string Said(const v1::StageRequest& request) {
    const absl::Status status = staging_->Stage(request);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_FALSE(std::filesystem::exists(job_root_ + "/" + request.job()));
    return std::string(status.message());
  }

  TemporaryFolder temporary_;
  const std::string job_root_ = temporary_ / "jobs";
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<Staging> staging_;
};

TEST_F(StagingTest, MakesTheJobsDirectory) {
  ASSERT_TRUE(staging_->Stage(Program(kScript)).ok());
  EXPECT_EQ(staging_->WorkDirectory("17"), job_root_ + "/17/work");
  EXPECT_EQ(staging_->TmpDirectory("17"), job_root_ + "/17/tmp");
  EXPECT_EQ(ModeOf(job_root_), 0700u);
  EXPECT_EQ(ModeOf(job_root_ + "/17"), 0700u);
  EXPECT_EQ(ModeOf(staging_->WorkDirectory("17")), 0700u);
  EXPECT_EQ(ModeOf(staging_->TmpDirectory("17")), 0700u);
  const std::string program = staging_->WorkDirectory("17") + "/hello";
  EXPECT_EQ(ModeOf(program), 0500u);
  EXPECT_EQ(Shell(program), 7);
}

TEST_F(StagingTest, EndJobRemovesItAndMayComeTwice) {
  ASSERT_TRUE(staging_->Stage(Program(kScript)).ok());
  EXPECT_TRUE(staging_->EndJob("17").ok());
  EXPECT_THAT(FilesIn(job_root_), IsEmpty());
  EXPECT_TRUE(staging_->EndJob("17").ok());
}

TEST_F(StagingTest, StagingAgainStartsAnew) {
  ASSERT_TRUE(staging_->Stage(Program(kScript)).ok());
  temporary_.Write("jobs/17/work/leftover", "x");
  ASSERT_TRUE(staging_->Stage(Program(kScript)).ok());
  EXPECT_THAT(FilesIn(staging_->WorkDirectory("17")), UnorderedElementsAre("hello"));
}

TEST_F(StagingTest, JobsDoNotSeeEachOther) {
  ASSERT_TRUE(staging_->Stage(Program(kScript, "1")).ok());
  ASSERT_TRUE(staging_->Stage(Program(kScript, "2")).ok());
  ASSERT_TRUE(staging_->EndJob("1").ok());
  EXPECT_TRUE(std::filesystem::exists(staging_->WorkDirectory("2") + "/hello"));
}

TEST_F(StagingTest, ManyThreadsAtOnce) {
  std::vector<std::thread> threads;
  std::vector<absl::Status> statuses(8);
  const std::vector<v1::StageRequest> requests = {Program(kScript, "1"), Program(kScript, "2")};
  for (size_t i = 0; i < statuses.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20 && statuses[i].ok(); ++round) {
        statuses[i] = i % 4 == 0 ? staging_->EndJob("1") : staging_->Stage(requests[i % 2]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) EXPECT_TRUE(status.ok()) << status;
}

TEST_F(StagingTest, JobIdsThatAreNoNumbersAreRefused) {
  for (const std::string& job : {std::string(""), std::string(".."), std::string("1/2"),
                                 std::string("-1"), std::string("1234567890123"),
                                 std::string("1\0"
                                             "2",
                                             3),
                                 std::string("store")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(staging_->Stage(Program(kScript, job)))) << job;
    EXPECT_TRUE(absl::IsInvalidArgument(staging_->EndJob(job))) << job;
  }
}

TEST_F(StagingTest, FileNamesThatLeadOutOfTheJobAreRefused) {
  for (const std::string& name :
       {std::string(""), std::string("."), std::string(".."), std::string("../x"),
        std::string("a/../../x"), std::string("a/.."), std::string("./a"), std::string("a//b"),
        std::string("a/"), std::string("/etc/passwd"), std::string("/"), std::string("a\0b", 3),
        std::string("a/b\0c", 5), std::string(256, 'a')}) {
    v1::StageRequest request = Program(kScript);
    request.mutable_files(0)->set_name(name);
    request.set_program(name);
    const absl::Status status = staging_->Stage(request);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
  EXPECT_THAT(FilesIn(job_root_), IsEmpty());
}

TEST_F(StagingTest, AnOddButPlainNameIsFine) {
  v1::StageRequest request = Program(kScript);
  request.mutable_files(0)->set_name("..hello world\n");
  request.set_program("..hello world\n");
  const absl::Status status = staging_->Stage(request);
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(StagingTest, TwoFilesOfOneNameAreRefused) {
  v1::StageRequest request = Program(kScript);
  *request.add_files() = request.files(0);
  EXPECT_TRUE(absl::IsInvalidArgument(staging_->Stage(request)));
}

TEST_F(StagingTest, FilesLieUnderTheirPaths) {
  v1::StageRequest request = Program(kScript);
  for (const char* name : {"data/deep/in.txt", "data/other", "data/deep/tool"}) {
    v1::StagedFile* file = request.add_files();
    *file = request.files(0);
    file->set_name(name);
  }
  for (const char* name : {"data/empty", "data/deep", "results"}) {
    v1::StagedFile* folder = request.add_files();
    folder->set_name(name);
    folder->set_folder(true);
  }
  const absl::Status status = staging_->Stage(request);
  ASSERT_TRUE(status.ok()) << status;
  const std::string work = staging_->WorkDirectory("17");
  EXPECT_THAT(FilesIn(work), UnorderedElementsAre("hello", "data", "results"));
  EXPECT_THAT(FilesIn(work + "/data"), UnorderedElementsAre("deep", "other", "empty"));
  EXPECT_THAT(FilesIn(work + "/data/deep"), UnorderedElementsAre("in.txt", "tool"));
  EXPECT_EQ(ModeOf(work + "/data/deep"), 0700u);
  EXPECT_EQ(ReadWhole(work + "/data/deep/in.txt"), kScript);
  EXPECT_TRUE(staging_->EndJob("17").ok());
  EXPECT_THAT(FilesIn(job_root_), IsEmpty());
}

TEST_F(StagingTest, AFileThatWouldBeAFolderIsRefused) {
  v1::StageRequest request = Program(kScript);
  *request.add_files() = request.files(0);
  request.mutable_files(1)->set_name("hello/inside");
  const absl::Status status = staging_->Stage(request);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("hello is a file"));
}

// Whoever left a symlink where a folder is to be made: it is removed, not followed.
TEST_F(StagingTest, SymlinksInTheJobsPlaceAreNotFollowed) {
  ASSERT_TRUE(std::filesystem::create_directories(job_root_ + "/17"));
  ASSERT_TRUE(std::filesystem::create_directory(temporary_ / "elsewhere"));
  ASSERT_EQ(symlink((temporary_ / "elsewhere").c_str(), (job_root_ + "/17/work").c_str()), 0);
  v1::StageRequest request = Program(kScript);
  *request.add_files() = request.files(0);
  request.mutable_files(1)->set_name("data/in");
  ASSERT_TRUE(staging_->Stage(request).ok());
  EXPECT_THAT(FilesIn(temporary_ / "elsewhere"), IsEmpty());
  EXPECT_TRUE(std::filesystem::exists(staging_->WorkDirectory("17") + "/data/in"));
}

class WorkersProgramTest : public StagingTest {
 protected:
  void SetUp() override {
    StagingTest::SetUp();
    request_.set_job("17");
    request_.set_workers_program("tool");
    request_.set_search_path(absl::StrCat("/nowhere:", temporary_ / "bin"));
    ASSERT_TRUE(std::filesystem::create_directory(temporary_ / "bin"));
  }
  void MakeTool(const std::string& path, mode_t mode) {
    temporary_.Write(path, kScript);
    ASSERT_EQ(chmod((temporary_ / path).c_str(), mode), 0);
  }

  v1::StageRequest request_;
};

TEST_F(WorkersProgramTest, IsFoundInTheRanksPath) {
  MakeTool("bin/tool", 0700);
  const absl::Status status = staging_->Stage(request_);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(FilesIn(staging_->WorkDirectory("17")), IsEmpty());
}

TEST_F(WorkersProgramTest, TheAgentsOwnPathIsTheDefault) {
  request_.clear_search_path();
  request_.set_workers_program("sh");
  EXPECT_TRUE(staging_->Stage(request_).ok());
}

TEST_F(WorkersProgramTest, MissingIsNotFoundAndSaysWhere) {
  const absl::Status status = staging_->Stage(request_);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("tool"), HasSubstr("/nowhere:" + temporary_ / "bin")));
  EXPECT_THAT(FilesIn(job_root_), IsEmpty());
}

TEST_F(WorkersProgramTest, AFolderOrAFileThatCannotStartIsNotFound) {
  ASSERT_TRUE(std::filesystem::create_directory(temporary_ / "bin/tool"));
  EXPECT_TRUE(absl::IsNotFound(staging_->Stage(request_)));
  ASSERT_TRUE(std::filesystem::remove(temporary_ / "bin/tool"));
  MakeTool("bin/tool", 0600);
  EXPECT_TRUE(absl::IsNotFound(staging_->Stage(request_)));
}

TEST_F(WorkersProgramTest, RelativeFoldersOfThePathStartWhereTheRanksDo) {
  MakeTool("bin/tool", 0700);
  request_.set_search_path("/nowhere:bin");
  EXPECT_TRUE(absl::IsNotFound(staging_->Stage(request_)));
  request_.set_working_directory(temporary_.path());
  EXPECT_TRUE(staging_->Stage(request_).ok());
}

TEST_F(WorkersProgramTest, APathIsNoNameOfAWorkersProgram) {
  for (const std::string& name : {std::string("/bin/sh"), std::string(".."), std::string("a/b")}) {
    request_.set_workers_program(name);
    EXPECT_TRUE(absl::IsInvalidArgument(staging_->Stage(request_))) << name;
  }
}

TEST_F(StagingTest, AProgramThatIsNotAmongTheFilesIsRefused) {
  v1::StageRequest request = Program(kScript);
  request.set_program("other");
  EXPECT_TRUE(absl::IsInvalidArgument(staging_->Stage(request)));
}

TEST_F(StagingTest, AMissingBlobAbortsAndLeavesNothing) {
  v1::StageRequest request = Program(kScript);
  request.mutable_files(0)->set_sha256(std::string(64, 'a'));
  const absl::Status status = staging_->Stage(request);
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("hello"));
  EXPECT_THAT(FilesIn(job_root_), IsEmpty());
}

TEST_F(StagingTest, TheWorkingDirectoryMustExistHere) {
  v1::StageRequest request = Program(kScript);
  request.set_working_directory("/nowhere/at/all");
  EXPECT_EQ(Said(request), "working directory /nowhere/at/all does not exist here (--wdir)");
  request.set_working_directory("/etc/passwd");
  EXPECT_EQ(Said(request), "working directory /etc/passwd is no directory (--wdir)");
  request.set_working_directory("/");
  EXPECT_TRUE(staging_->Stage(request).ok());
}

TEST_F(StagingTest, AScriptWithoutItsInterpreter) {
  EXPECT_THAT(Said(Program("#!/opt/none/python9\n")),
              HasSubstr("interpreter /opt/none/python9 is missing here"));
}

TEST_F(StagingTest, NoProgramAtAll) {
  EXPECT_EQ(Said(Program("int main;\n")), "hello is not a program: no ELF header, no #! line");
}

TEST_F(StagingTest, ForeignArchitecture) {
  std::string program = ReadWhole("/proc/self/exe");
  program[offsetof(Elf64_Ehdr, e_machine)] = static_cast<char>(EM_PPC64);
  EXPECT_THAT(Said(Program(program)), AllOf(HasSubstr("hello is for ppc64le, this worker is ")));
}

TEST_F(StagingTest, StaticProgram) {
  const absl::Status status =
      staging_->Stage(Program(Compile("int main(void) { return 0; }", "-static", "static_hello")));
  EXPECT_TRUE(status.ok()) << status;
}

// A program of two libraries; what it does when run would be seen.
class LibraryTest : public StagingTest {
 protected:
  void SetUp() override {
    StagingTest::SetUp();
    CompileLibraries();
    const std::string source =
        absl::StrCat("#include <fcntl.h>\nint foo(void); int bar(void);\nint main(void) { creat(\"",
                     temporary_ / "it-ran", "\", 0600); return foo() + bar(); }");
    request_ = Program(Compile(source, "-L. -lfoo -lbar", "library_hello"));
    request_.set_library_path(temporary_.path());
  }
  void TearDown() override { EXPECT_FALSE(std::filesystem::exists(temporary_ / "it-ran")); }

  void CompileLibraries() {
    Compile("int foo(void) { return 1; }", "-shared -fPIC -Wl,-soname,libfoo.so", "libfoo.so");
    Compile("int bar(void) { return 2; }", "-shared -fPIC -Wl,-soname,libbar.so", "libbar.so");
  }
  void RemoveLibraries() {
    unlink((temporary_ / "libfoo.so").c_str());
    unlink((temporary_ / "libbar.so").c_str());
  }

  v1::StageRequest request_;
};

TEST_F(LibraryTest, FoundThroughTheRanksLibraryPath) {
  const absl::Status status = staging_->Stage(request_);
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(LibraryTest, AllThatIsMissingIsNamed) {
  request_.set_library_path("/nowhere");
  EXPECT_EQ(Said(request_),
            "hello cannot start here: libfoo.so, libbar.so missing (LD_LIBRARY_PATH is /nowhere)");
  request_.clear_library_path();
  EXPECT_EQ(Said(request_), "hello cannot start here: libfoo.so, libbar.so missing");
}

TEST_F(LibraryTest, AMissingLibraryMayComeLater) {
  RemoveLibraries();
  EXPECT_THAT(Said(request_), HasSubstr("libfoo.so, libbar.so missing"));
  CompileLibraries();
  const absl::Status status = staging_->Stage(request_);
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(LibraryTest, TheSecondRunDoesNotAskAgain) {
  ASSERT_TRUE(staging_->Stage(request_).ok());
  RemoveLibraries();
  EXPECT_TRUE(staging_->Stage(request_).ok());
  request_.set_library_path(temporary_.path() + ":/other");
  EXPECT_THAT(Said(request_), HasSubstr("missing"));
}

TEST_F(LibraryTest, AnOlderVersionOfALibraryIsNamed) {
  temporary_.Write("new.map", "FOO_2 { global: foo; };\n");
  temporary_.Write("old.map", "FOO_1 { global: foo; };\n");
  const std::string shared = "-shared -fPIC -Wl,-soname,libfoo.so -Wl,--version-script=";
  Compile("int foo(void) { return 1; }", shared + "new.map", "libfoo.so");
  request_ = Program(
      Compile("int foo(void);\nint main(void) { return foo(); }", "-L. -lfoo", "versioned_hello"));
  request_.set_library_path(temporary_.path());
  Compile("int foo(void) { return 1; }", shared + "old.map", "libfoo.so");
  EXPECT_THAT(Said(request_), HasSubstr(absl::StrCat(temporary_ / "libfoo.so", " lacks FOO_2")));
}

TEST_F(LibraryTest, ATornLibraryIsNamed) {
  temporary_.Write("libfoo.so", "torn");
  EXPECT_THAT(Said(request_), HasSubstr("libfoo.so: file too short"));
}

// ETXTBSY, if a child started meanwhile still had the program open for writing.
TEST_F(StagingTest, AProgramJustWrittenCanStartWhileOthersAreStarted) {
  std::atomic<bool> stop = false;
  std::thread others([&] {
    while (!stop) EXPECT_EQ(Shell("exit 3"), 3);
  });
  for (int round = 0; round < 30; ++round) {
    EXPECT_TRUE(staging_->Stage(Program(absl::StrCat(kScript, "# ", round))).ok());
    EXPECT_EQ(Shell(absl::StrCat("exec ", staging_->WorkDirectory("17"), "/hello")), 7);
  }
  stop = true;
  others.join();
}

TEST_F(StagingTest, WhatAnEarlierAgentLeftIsRemovedAndNothingElse) {
  ASSERT_TRUE(staging_->Stage(Program(kScript)).ok());
  ASSERT_TRUE(std::filesystem::create_directories(job_root_ + "/store/1"));
  OpenStaging();
  EXPECT_THAT(FilesIn(job_root_), UnorderedElementsAre("store"));
  EXPECT_THAT(FilesIn(job_root_ + "/store"), UnorderedElementsAre("1"));
}

TEST_F(StagingTest, SymlinksOfAJobAreRemovedNotFollowed) {
  temporary_.Write("precious", "x");
  ASSERT_TRUE(staging_->Stage(Program(kScript)).ok());
  const std::string work = staging_->WorkDirectory("17");
  ASSERT_EQ(symlink(temporary_.path().c_str(), (work + "/up").c_str()), 0);
  ASSERT_TRUE(staging_->EndJob("17").ok());
  EXPECT_TRUE(std::filesystem::exists(temporary_ / "precious"));
  ASSERT_EQ(symlink(temporary_.path().c_str(), (job_root_ + "/18").c_str()), 0);
  ASSERT_TRUE(staging_->EndJob("18").ok());
  EXPECT_TRUE(std::filesystem::exists(temporary_ / "precious"));
  EXPECT_THAT(FilesIn(job_root_), IsEmpty());
}

TEST_F(StagingTest, AJobRootThatIsASymlinkIsRefused) {
  ASSERT_EQ(symlink(temporary_.path().c_str(), (temporary_ / "link").c_str()), 0);
  const absl::Status status = Staging::Open({temporary_ / "link", blobs_.get(), &Init()}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("not a symlink"));
}

TEST_F(StagingTest, AJobRootOfAnotherLiveAgentIsRefused) {
  const absl::Status status = Staging::Open({job_root_, blobs_.get(), &Init()}).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(job_root_));
}

TEST_F(StagingTest, AJobRootThatIsNotAbsoluteIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Staging::Open({"jobs", blobs_.get(), &Init()}).status()));
}

TEST_F(StagingTest, AJobRootOfAnotherUserIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string foreign = temporary_ / "foreign";
  ASSERT_TRUE(std::filesystem::create_directory(foreign));
  ASSERT_EQ(chown(foreign.c_str(), 65534, 65534), 0);
  const absl::Status status = Staging::Open({foreign, blobs_.get(), &Init()}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("belongs to uid 65534"));
}

TEST_F(StagingTest, FoldersThatAJobLockedAreRemovedByAnOrdinaryUser) {
  const bool root = geteuid() == 0;
  ASSERT_TRUE(staging_->Stage(Program(kScript)).ok());
  const std::string work = staging_->WorkDirectory("17");
  ASSERT_TRUE(std::filesystem::create_directories(work + "/locked/deeper"));
  temporary_.Write("jobs/17/work/locked/deeper/file", "x");
  if (root) {
    ASSERT_EQ(Shell(absl::StrCat("chown -R 65534 ", temporary_.path())), 0);
    ASSERT_EQ(seteuid(65534), 0);
  }
  EXPECT_EQ(chmod((work + "/locked/deeper").c_str(), 0), 0);
  EXPECT_EQ(chmod((work + "/locked").c_str(), 0), 0);
  EXPECT_EQ(chmod((job_root_ + "/17").c_str(), 0), 0);
  const absl::Status status = staging_->EndJob("17");
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(FilesIn(job_root_), IsEmpty());
}

TEST_F(StagingTest, ANoexecMountIsNamed) {
  const v1::StageRequest request = Program(kScript);
  if (unshare(CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    GTEST_SKIP() << "no mount namespace here";
  }
  const std::string folder = temporary_ / "noexec";
  ASSERT_TRUE(std::filesystem::create_directory(folder));
  ASSERT_EQ(mount("tmpfs", folder.c_str(), "tmpfs", MS_NOEXEC, "mode=700"), 0);
  {
    auto staging = Staging::Open({folder, blobs_.get(), &Init()});
    ASSERT_TRUE(staging.ok()) << staging.status();
    EXPECT_TRUE(absl::IsFailedPrecondition((*staging)->CheckPrograms()));
    EXPECT_TRUE(staging_->CheckPrograms().ok());
    const absl::Status status = (*staging)->Stage(request);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("is mounted noexec; mount it exec"));
  }
  umount(folder.c_str());
}

}  // namespace
}  // namespace mpilaunch

int main(int argc, char** argv) {
  mpilaunch::PrepareProcess();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
