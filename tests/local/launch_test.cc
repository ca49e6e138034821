// mpilaunch over real Open MPI: two workers in namespaces of their own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "support/mpi_cluster.h"

namespace mpilaunch::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class Launch : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { cluster_ = std::make_unique<MpiCluster>(2, 4); }
  static void TearDownTestSuite() { cluster_.reset(); }

  static CommandResult Mpilaunch(const std::vector<std::string>& arguments,
                                 Command::Options options = {}) {
    return cluster_->Mpilaunch(arguments, std::move(options));
  }
  static std::string Path(const std::string& name) { return cluster_->folder() + "/" + name; }

  static std::unique_ptr<MpiCluster> cluster_;
};
std::unique_ptr<MpiCluster> Launch::cluster_;

TEST_F(Launch, EightRanksInEvenBlocks) {
  const CommandResult result = Mpilaunch({"hello", "-n", "8"});
  EXPECT_EQ(result.code, 0) << result.err;
  std::vector<std::string> expected;
  for (int rank = 0; rank < 8; ++rank) {
    expected.push_back(absl::StrCat("Hello world! I am process number: ", rank, " on host ",
                                    rank < 4 ? "w1" : "w2"));
  }
  EXPECT_THAT(Lines(result.out), ::testing::UnorderedElementsAreArray(expected));
  EXPECT_THAT(result.err, IsEmpty());
}

TEST_F(Launch, RanksOfDifferentWorkersExchangeMessages) {
  EXPECT_THAT(Mpilaunch({"probe", "-n", "8", "exchange"}).out, "exchange of 8 ranks good\n");
  EXPECT_THAT(Mpilaunch({"-n", "2", "probe", "exchange"}).out, "exchange of 2 ranks good\n");
}

TEST_F(Launch, PackFillsOneWorkerFirst) {
  const CommandResult result = Mpilaunch({"--map", "pack", "-n", "3", "hello"});
  EXPECT_THAT(result.out, Not(HasSubstr("w2"))) << result.err;
  EXPECT_EQ(Lines(result.out).size(), 3u);
}

TEST_F(Launch, ArgumentsReachTheProgramUnchanged) {
  EXPECT_THAT(
      Lines(Mpilaunch({"-n", "1", "probe", "args", "a b", "", "-n", "$HOME", "\"q\"", "--"}).out),
      ElementsAre("[a b]", "[]", "[-n]", "[$HOME]", "[\"q\"]", "[--]"));
  EXPECT_THAT(Lines(Mpilaunch({"probe", "-n", "1", "--", "args", "-v"}).out), ElementsAre("[-v]"));
}

TEST_F(Launch, ExitCodeIsTheProgramsOwn) {
  EXPECT_EQ(Mpilaunch({"probe", "-n", "4", "exit", "3"}).code, 3);
  EXPECT_EQ(Mpilaunch({"probe", "-n", "4", "abort", "5"}).code, 5);
  EXPECT_EQ(Mpilaunch({"probe", "-n", "4", "segv"}).code, 128 + SIGSEGV);
}

TEST_F(Launch, StdinGoesToRankZero) {
  Command::Options options;
  options.input = std::string(3 << 20, 'x');
  const CommandResult result = Mpilaunch({"probe", "-n", "4", "stdin"}, options);
  EXPECT_THAT(result.out, HasSubstr("rank 0 read 3145728 bytes"));
  EXPECT_THAT(result.out, HasSubstr("rank 3 read 0 bytes"));
}

TEST_F(Launch, OutputIsCompleteAndOnlyTheProgramsOwn) {
  const CommandResult result = Mpilaunch({"-v", "-n", "4", "probe", "output", "20000"});
  EXPECT_EQ(result.code, 0);
  // mpirun mixes the ranks' streams in pieces that may end within a line, so what counts is the
  // bytes.
  size_t expected = 0;
  for (int line = 0; line < 20000; ++line) {
    expected +=
        4 * absl::StrCat("rank 0 line ", line, " of some length to fill pipes and queues\n").size();
  }
  EXPECT_EQ(result.out.size(), expected);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 80000);
  EXPECT_THAT(result.err, HasSubstr("phase"));
}

TEST_F(Launch, EnvironmentIsPassed) {
  Command::Options options;
  options.environment = {"FROM_HERE=a b;c=d", "NOT_PASSED=1"};
  EXPECT_THAT(Mpilaunch({"-n", "2", "-x", "FROM_HERE", "probe", "env", "FROM_HERE"}, options).out,
              HasSubstr("rank 1 FROM_HERE=a b;c=d"));
  EXPECT_THAT(Mpilaunch({"-n", "1", "-x", "GIVEN=x=y z", "probe", "env", "GIVEN"}).out,
              HasSubstr("GIVEN=x=y z"));
  EXPECT_THAT(Mpilaunch({"-n", "1", "probe", "env", "NOT_PASSED"}, options).out,
              HasSubstr("(unset)"));
}

TEST_F(Launch, AgentsSettingsStayOutOfTheRanks) {
  for (const char* name : {"MPILAUNCH_JOIN_BUNDLE", "MPILAUNCH_FRONTEND", "MPILAUNCH_RSH_SOCKET"}) {
    EXPECT_THAT(Mpilaunch({"-n", "2", "probe", "env", name}).out, HasSubstr("(unset)")) << name;
  }
}

TEST_F(Launch, RanksStartInTheJobsOwnDirectory) {
  const CommandResult result = Mpilaunch({"probe", "-n", "2", "where"});
  EXPECT_THAT(result.out, HasSubstr("/work uid")) << result.err;
  EXPECT_THAT(Mpilaunch({"-n", "2", "--wdir", "/usr", "probe", "where"}).out,
              HasSubstr("folder /usr uid"));
}

TEST_F(Launch, WorkingDirectoryMissingOnAWorker) {
  const CommandResult result =
      Mpilaunch({"-n", "2", "--wdir", "/no/such/folder", "probe", "where"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("/no/such/folder"));
  EXPECT_THAT(result.err, HasSubstr("w1"));
}

TEST_F(Launch, RebuiltProgramIsTheOneThatRuns) {
  const std::string program = Path("changing");
  for (const char* text : {"first", "second"}) {
    std::ofstream(program + ".new") << "#!/bin/sh\necho " << text << "\n";
    std::filesystem::permissions(program + ".new", std::filesystem::perms::owner_all);
    std::filesystem::rename(program + ".new", program);
    EXPECT_EQ(Mpilaunch({"-n", "1", "./changing"}).out, absl::StrCat(text, "\n"));
  }
}

TEST_F(Launch, TagOutputNamesTheRank) {
  EXPECT_THAT(Mpilaunch({"-n", "2", "--tag-output", "hello"}).out, HasSubstr("[1,1]<stdout>"));
}

TEST_F(Launch, McaParametersWinOverOurs) {
  const CommandResult result =
      Mpilaunch({"-n", "2", "-v", "--mca", "btl", "self,tcp", "probe", "env", "OMPI_MCA_btl"});
  EXPECT_THAT(result.out, HasSubstr("OMPI_MCA_btl=self,tcp")) << result.err;
}

TEST_F(Launch, ArgumentsAndValuesNeedNotBeUtf8) {
  const CommandResult result =
      Mpilaunch({"-n", "1", "-x", "LATIN=\xfc", "probe", "args", "caf\xe9"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "[caf\xe9]\n");
  EXPECT_EQ(result.err, "");
}

TEST_F(Launch, ClosedStandardInputIsAnEmptyOne) {
  const CommandResult result = cluster_->Shell("mpilaunch -n 2 probe stdin <&-");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("rank 0 read 0 bytes"));
}

TEST_F(Launch, LastOfTwoValuesWins) {
  EXPECT_THAT(Mpilaunch({"-n", "1", "-x", "A=1", "-x", "A=2", "probe", "env", "A"}).out,
              HasSubstr("A=2"));
}

TEST_F(Launch, OutputThatCannotBeWrittenIsAnError) {
  const CommandResult result = cluster_->Shell("mpilaunch -n 2 hello >/dev/full");
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("No space left"));
  EXPECT_EQ(cluster_->Shell("mpilaunch workers >/dev/full").code, 125);
}

TEST_F(Launch, CancelledLaunchIsQuiet) {
  auto command = cluster_->Start({"-n", "8", "probe", "sleep", "1000"});
  // Whatever step it is at: there is nothing to say about an end that was asked for.
  command->Signal(SIGINT);
  const CommandResult result = command->Finish();
  EXPECT_EQ(result.code, 130);
  EXPECT_THAT(result.err, Not(HasSubstr("ORTE")));
  EXPECT_EQ(Mpilaunch({"-n", "8", "hello"}).code, 0);
}

// Bad input.

TEST_F(Launch, ProgramMissing) {
  const CommandResult result = Mpilaunch({"no-such-program", "-n", "2"});
  EXPECT_EQ(result.code, 127);
  EXPECT_THAT(result.err, HasSubstr("no-such-program"));
}

TEST_F(Launch, ProgramNotExecutable) {
  std::ofstream(Path("plain")) << "#!/bin/sh\n";
  const CommandResult result = Mpilaunch({"./plain", "-n", "2"});
  EXPECT_EQ(result.code, 126);
  EXPECT_THAT(result.err, HasSubstr("chmod +x"));
}

TEST_F(Launch, ProgramIsADirectory) {
  std::filesystem::create_directory(Path("folder"));
  const CommandResult result = Mpilaunch({"./folder", "-n", "2"});
  EXPECT_EQ(result.code, 126);
  EXPECT_THAT(result.err, HasSubstr("directory"));
}

TEST_F(Launch, ProgramOfAnotherArchitecture) {
  std::filesystem::copy_file(Path("hello"), Path("foreign"),
                             std::filesystem::copy_options::overwrite_existing);
  std::fstream file(Path("foreign"), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(18);             // e_machine
  file.write("\xb7\x00", 2);  // aarch64
  file.close();
  const CommandResult result = Mpilaunch({"foreign", "-n", "2"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("aarch64"));
  EXPECT_THAT(result.err, HasSubstr("w1"));
}

TEST_F(Launch, ScriptWithoutInterpreterOnAWorker) {
  std::ofstream(Path("script")) << "#!/opt/no/interpreter\n";
  std::filesystem::permissions(Path("script"), std::filesystem::perms::owner_all);
  const CommandResult result = Mpilaunch({"script", "-n", "2"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("/opt/no/interpreter"));
}

TEST_F(Launch, SharedLibraryMissingOnAWorkerIsNamedBeforeMpirun) {
  std::ofstream(Path("lib.c")) << "int f(void) { return 0; }\n";
  std::ofstream(Path("main.c")) << "int f(void); int main(void) { return f(); }\n";
  ASSERT_EQ(RunCommand({"gcc", "-shared", "-fPIC", "-o", Path("libabsent.so"), Path("lib.c")}).code,
            0);
  ASSERT_EQ(RunCommand(
                {"gcc", "-o", Path("needy"), Path("main.c"), "-L" + cluster_->folder(), "-labsent"})
                .code,
            0);
  std::filesystem::remove(Path("libabsent.so"));
  const CommandResult result = Mpilaunch({"-n", "2", "-v", "./needy"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("libabsent.so"));
  EXPECT_THAT(result.err, HasSubstr("w2"));
  EXPECT_THAT(result.err, Not(HasSubstr("mpirun spawned")));
}

TEST_F(Launch, MoreRanksThanSlots) {
  const CommandResult result = Mpilaunch({"hello", "-n", "9"});
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("9 ranks"));
  EXPECT_THAT(result.err, HasSubstr("w1 has 4, w2 has 4"));
  EXPECT_THAT(result.err, HasSubstr("--oversubscribe"));
  EXPECT_EQ(Lines(Mpilaunch({"hello", "-n", "11", "--oversubscribe"}).out).size(), 11u);
}

TEST_F(Launch, ExportOfAnUnsetVariable) {
  const CommandResult result = Mpilaunch({"-n", "1", "-x", "SURELY_UNSET", "hello"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("SURELY_UNSET"));
}

// Ends before the end.

TEST_F(Launch, CtrlCEndsAllRanksEverywhere) {
  auto command = cluster_->Start({"probe", "-n", "8", "sleep", "1000"});
  ASSERT_TRUE(command->AwaitOutput("rank 7 sleeps"));
  command->Signal(SIGINT);
  const CommandResult result = command->Finish();
  EXPECT_EQ(result.code, 130);
  EXPECT_THAT(MpiCluster::FindProcesses("probe"), IsEmpty());
  EXPECT_THAT(MpiCluster::FindProcesses("orted"), IsEmpty());
}

TEST_F(Launch, SigtermEndsTheJobWith143) {
  auto command = cluster_->Start({"probe", "-n", "2", "sleep", "1000"});
  ASSERT_TRUE(command->AwaitOutput("rank 1 sleeps"));
  command->Signal(SIGTERM);
  EXPECT_EQ(command->Finish().code, 143);
  EXPECT_THAT(MpiCluster::FindProcesses("probe"), IsEmpty());
}

TEST_F(Launch, RanksThatIgnoreSigtermDieInTime) {
  auto command = cluster_->Start({"probe", "-n", "2", "stubborn"});
  ASSERT_TRUE(command->AwaitOutput("rank 1 sleeps"));
  const absl::Time asked = absl::Now();
  command->Signal(SIGINT);
  command->Finish();
  EXPECT_LT(absl::Now() - asked, absl::Seconds(10));
  EXPECT_THAT(MpiCluster::FindProcesses("probe"), IsEmpty());
}

TEST_F(Launch, TimeoutEndsTheJobWith124) {
  const CommandResult result = Mpilaunch({"probe", "-n", "2", "--timeout", "1", "sleep", "1000"});
  EXPECT_EQ(result.code, 124);
  EXPECT_THAT(result.err, HasSubstr("--timeout 1 expired"));
  EXPECT_THAT(MpiCluster::FindProcesses("probe"), IsEmpty());
}

TEST_F(Launch, ClientThatIsKilledTakesItsJobAlong) {
  auto command = cluster_->Start({"probe", "-n", "8", "sleep", "1000"});
  ASSERT_TRUE(command->AwaitOutput("rank 7 sleeps"));
  command->Signal(SIGKILL);
  EXPECT_EQ(command->Finish().code, 137);
  // Its slots are free again only when nothing of it is left: the next job waits for that.
  EXPECT_EQ(Mpilaunch({"hello", "-n", "8"}).code, 0);
  EXPECT_THAT(MpiCluster::FindProcesses("probe"), IsEmpty());
}

TEST_F(Launch, UserSignalsReachTheRanks) {
  auto command = cluster_->Start({"probe", "-n", "2", "usr1"});
  ASSERT_TRUE(command->AwaitOutput("rank 0 waits") && command->AwaitOutput("rank 1 waits"));
  command->Signal(SIGUSR1);
  EXPECT_THAT(command->Finish().out, HasSubstr("got USR1"));
}

TEST_F(Launch, ReaderThatGoesAwayEndsTheJob) {
  auto command = cluster_->Start({"-n", "2", "/usr/bin/yes"});
  ASSERT_TRUE(command->AwaitOutput("y\n"));
  command->CloseOutput();
  EXPECT_EQ(command->Finish().code, 128 + SIGPIPE);
  EXPECT_EQ(Mpilaunch({"hello", "-n", "8"}).code, 0);  // waits until nothing of it is left
  EXPECT_THAT(MpiCluster::FindProcesses("yes"), IsEmpty());
}

// Queue.

TEST_F(Launch, JobsRunSideBySideWhenSlotsAllow) {
  auto first = cluster_->Start({"probe", "-n", "4", "sleep", "1000"});
  ASSERT_TRUE(first->AwaitOutput("rank 3 sleeps"));
  EXPECT_EQ(Mpilaunch({"hello", "-n", "4"}).code, 0);
  first->Signal(SIGINT);
  first->Finish();
}

TEST_F(Launch, JobsWaitInOrderSayingSo) {
  auto first = cluster_->Start({"probe", "-n", "8", "sleep", "1000"});
  ASSERT_TRUE(first->AwaitOutput("rank 7 sleeps"));
  auto second = cluster_->Start({"hello", "-n", "8"});
  ASSERT_TRUE(second->AwaitOutput("waits"));
  auto third = cluster_->Start(
      {"hello", "-n", "1"});  // would never fit before the second: all slots are taken
  ASSERT_TRUE(third->AwaitOutput("waits"));
  EXPECT_THAT(Mpilaunch({"jobs"}).out, HasSubstr("QUEUED"));
  first->Signal(SIGINT);
  first->Finish();
  EXPECT_EQ(second->Finish().code, 0);
  // Why it waits has changed meanwhile, when the second started: one line is enough.
  const CommandResult result = third->Finish();
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(Lines(result.err), ElementsAre(HasSubstr("waits: "), HasSubstr("starts")));
}

TEST_F(Launch, CancelEndsARunningAndAQueuedJob) {
  auto running = cluster_->Start({"-v", "-n", "8", "probe", "sleep", "1000"});
  ASSERT_TRUE(running->AwaitOutput("rank 7 sleeps"));
  auto queued = cluster_->Start({"-v", "-n", "8", "hello"});
  ASSERT_TRUE(queued->AwaitOutput("waits"));
  for (const std::string& line : Lines(Mpilaunch({"jobs"}).out)) {
    if (line.find("QUEUED") == std::string::npos && line.find("RUNNING") == std::string::npos)
      continue;
    const std::string job = line.substr(0, line.find(' '));
    EXPECT_EQ(Mpilaunch({"cancel", job}).code, 0);
  }
  EXPECT_EQ(queued->Finish().code, 125);
  const CommandResult result = running->Finish();
  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.err, HasSubstr("cancelled"));
  EXPECT_EQ(Mpilaunch({"cancel", "999999"}).code, 125);
}

TEST_F(Launch, WorkersShowTheirSlotsAndWhy) {
  const CommandResult result = Mpilaunch({"workers"});
  EXPECT_THAT(result.out, HasSubstr("w1"));
  EXPECT_THAT(result.out, HasSubstr("4.1."));
  const CommandResult json = Mpilaunch({"workers", "--json"});
  EXPECT_THAT(json.out, HasSubstr("\"slots\": 4"));
}

}  // namespace
}  // namespace mpilaunch::testing
