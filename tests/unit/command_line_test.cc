#include "launcher/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_split.h"

namespace mpilaunch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

CommandLine Parse(const std::string& line) {
  return ParseCommandLine(std::vector<std::string>(absl::StrSplit(line, ' ', absl::SkipEmpty())));
}

RunCommand ParseRunOk(const std::string& line) {
  const CommandLine parsed = Parse(line);
  EXPECT_EQ(parsed.exit_code, -1) << line;
  return std::get<RunCommand>(parsed.command);
}

// The error for people, on stderr, of a line that must be refused.
std::string Refused(const std::string& line) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(Parse(line).exit_code, 2) << line;
  return testing::internal::GetCapturedStderr();
}

TEST(CommandLine, ProgramFirst) {
  const RunCommand command = ParseRunOk("hello -n 8");
  EXPECT_EQ(command.program, "hello");
  EXPECT_EQ(command.ranks, 8u);
  EXPECT_THAT(command.arguments, IsEmpty());
}

TEST(CommandLine, OptionsFirstLeaveTheRestToTheProgram) {
  const RunCommand command = ParseRunOk("-n 8 hello a b -n 3 --wait");
  EXPECT_EQ(command.ranks, 8u);
  EXPECT_EQ(command.program, "hello");
  EXPECT_THAT(command.arguments, ElementsAre("a", "b", "-n", "3", "--wait"));
}

TEST(CommandLine, ArgumentsBehindTwoDashes) {
  EXPECT_THAT(ParseRunOk("hello -n 8 -- a -v").arguments, ElementsAre("a", "-v"));
  EXPECT_THAT(ParseRunOk("-n 8 -- hello a").arguments, ElementsAre("a"));
  EXPECT_THAT(ParseRunOk("hello -- --").arguments, ElementsAre("--"));
}

TEST(CommandLine, ArgumentsRightAfterTheProgram) {
  const RunCommand command = ParseRunOk("hello -n 2 a b");
  EXPECT_EQ(command.ranks, 2u);
  EXPECT_THAT(command.arguments, ElementsAre("a", "b"));
  // Whose option would it be?
  EXPECT_THAT(Refused("hello a b -n 2"), HasSubstr("behind \"--\""));
  EXPECT_THAT(ParseRunOk("hello -n 2 -- a -n 5").arguments, ElementsAre("a", "-n", "5"));
}

TEST(CommandLine, LocalOnlySaysWhere) {
  for (const char* line : {"--local=2 hello -n 8", "--local 2 hello -n 8", "hello --local=2 -n 8",
                           "--local=2 -n 8 hello"}) {
    const RunCommand command = ParseRunOk(line);
    EXPECT_EQ(command.local_workers, 2u) << line;
    EXPECT_EQ(command.ranks, 8u) << line;
    EXPECT_EQ(command.program, "hello") << line;
  }
}

TEST(CommandLine, HereOnlySaysWhere) {
  for (const char* line : {"--here hello -n 4", "hello --here -n 4", "hello -n 4 --here",
                           "--here -n 4 hello", "-n 4 --here hello"}) {
    const RunCommand command = ParseRunOk(line);
    EXPECT_TRUE(command.here) << line;
    EXPECT_EQ(command.ranks, 4u) << line;
    EXPECT_EQ(command.program, "hello") << line;
    EXPECT_THAT(command.arguments, IsEmpty()) << line;
  }
}

TEST(CommandLine, RanksRightBehindTheProgramAreOursWhenNoneStoodBefore) {
  const RunCommand command = ParseRunOk("--wait 300 -x A=1 hello -n 8 -x B=2 -- -n 3");
  EXPECT_EQ(command.wait_seconds, 300u);
  EXPECT_EQ(command.ranks, 8u);
  EXPECT_EQ(command.program, "hello");
  EXPECT_THAT(command.exports, ElementsAre("A=1", "B=2"));
  EXPECT_THAT(command.arguments, ElementsAre("-n", "3"));
  EXPECT_THAT(ParseRunOk("-n 2 echo -n hi").arguments, ElementsAre("-n", "hi"));
  EXPECT_THAT(ParseRunOk("-v -- echo -n 3").arguments, ElementsAre("-n", "3"));
  EXPECT_THAT(ParseRunOk("-v prog a -n 3").arguments, ElementsAre("a", "-n", "3"));
}

TEST(CommandLine, EveryOption) {
  const RunCommand command = ParseRunOk(
      "-np 3 -x A -x B=1 --wdir /data --oversubscribe --map pack --mca btl tcp -mca pml ob1 "
      "--tag-output --timeout 9 --wait 7 -v "
      "./a.out");
  EXPECT_EQ(command.ranks, 3u);
  EXPECT_THAT(command.exports, ElementsAre("A", "B=1"));
  EXPECT_EQ(command.working_directory, "/data");
  EXPECT_TRUE(command.oversubscribe);
  EXPECT_EQ(command.placement, v1::PACK);
  EXPECT_THAT(command.mca, ElementsAre(Pair("btl", "tcp"), Pair("pml", "ob1")));
  EXPECT_TRUE(command.tag_output);
  EXPECT_EQ(command.timeout_seconds, 9u);
  EXPECT_EQ(command.wait_seconds, 7u);
  EXPECT_TRUE(command.verbose);
  EXPECT_EQ(command.program, "./a.out");
}

TEST(CommandLine, StageTakesOnePathAndMayBeRepeated) {
  const RunCommand command =
      ParseRunOk("-n 4 --stage ring.py --stage=data python3 ring.py --stage x");
  EXPECT_THAT(command.staged, ElementsAre("ring.py", "data"));
  EXPECT_EQ(command.program, "python3");
  EXPECT_THAT(command.arguments, ElementsAre("ring.py", "--stage", "x"));
  const RunCommand behind = ParseRunOk("python3 -n 4 --stage ring.py -- ring.py");
  EXPECT_THAT(behind.staged, ElementsAre("ring.py"));
  EXPECT_EQ(behind.program, "python3");
  EXPECT_THAT(behind.arguments, ElementsAre("ring.py"));
  Refused("hello --stage");
}

TEST(CommandLine, BadNumberOfRanksIsRepeatedInTheError) {
  EXPECT_THAT(Refused("hello -n 0"), HasSubstr("\"0\" is no number of ranks"));
  EXPECT_THAT(Refused("hello -n -3"), HasSubstr("-3"));
  EXPECT_THAT(Refused("hello -n eight"), HasSubstr("eight"));
  EXPECT_THAT(Refused("hello -n 8.5"), HasSubstr("8.5"));
  EXPECT_THAT(Refused("hello -n 99999999999"), HasSubstr("99999999999"));
  Refused("hello -n");
  Refused("-n 8");
  Refused("--local=0 hello");
  Refused("--here --local=2 hello");
  Refused("--local=-1 hello");
}

TEST(CommandLine, UnknownOptionBehindTheProgramPointsToTwoDashes) {
  EXPECT_THAT(Refused("hello --fast"), HasSubstr("behind \"--\""));
  EXPECT_THAT(Refused("--fast hello"), HasSubstr("--fast"));
}

TEST(CommandLine, HelpIsNoError) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(Parse("--help").exit_code, 0);
  EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("--local=2"));
}

TEST(CommandLine, Subcommands) {
  EXPECT_TRUE(std::get<WorkersCommand>(Parse("workers --json").command).json);
  EXPECT_FALSE(std::get<JobsCommand>(Parse("jobs").command).json);
  EXPECT_EQ(std::get<CancelCommand>(Parse("cancel 17").command).job, "17");
  EXPECT_EQ(Parse("--socket /x workers").socket, "/x");
  EXPECT_EQ(std::get<CancelCommand>(Parse("--socket=/x cancel 3").command).job, "3");
  Refused("cancel");
  Refused("workers now");
}

}  // namespace
}  // namespace mpilaunch
