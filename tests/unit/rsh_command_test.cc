#include "launcher/rsh/rsh_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "launcher/rsh/rsh_protocol.h"

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;

std::optional<RshCommand> Parse(const std::vector<std::string>& arguments) {
  std::string error;
  auto parsed = ParseRshCommand(arguments, &error);
  EXPECT_EQ(parsed.has_value(), error.empty()) << error;
  return parsed;
}

std::string ErrorOf(const std::vector<std::string>& arguments) {
  std::string error;
  EXPECT_FALSE(ParseRshCommand(arguments, &error).has_value());
  EXPECT_FALSE(error.empty());
  EXPECT_EQ(error.find('\n'), std::string::npos);
  return error;
}

TEST(RshCommand, OpenMpi41KeepsItsLiteralQuotes) {
  const auto parsed =
      Parse({"w1", "orted", "-mca", "ess", "\"env\"", "-mca", "ess_base_jobid", "\"1234\"", "-mca",
             "orte_hnp_uri", "\"1234.0;tcp://127.0.0.1,10.0.0.1:4567\""});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->host, "w1");
  EXPECT_EQ(parsed->command,
            "orted -mca ess \"env\" -mca ess_base_jobid \"1234\" -mca orte_hnp_uri "
            "\"1234.0;tcp://127.0.0.1,10.0.0.1:4567\"");
}

TEST(RshCommand, OpenMpi50HandsShellTextInOneWord) {
  const std::string shell_text =
      "PRTE_PREFIX=/usr;export PRTE_PREFIX;"
      "LD_LIBRARY_PATH=/usr/lib:$LD_LIBRARY_PATH;export LD_LIBRARY_PATH;"
      "/usr/bin/prted";
  const auto parsed = Parse({"w2", shell_text, "--prtemca", "ess", "\"env\""});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->host, "w2");
  EXPECT_EQ(parsed->command, shell_text + " --prtemca ess \"env\"");
}

TEST(RshCommand, OptionsOfTheCommandAreItsOwn) {
  const auto parsed = Parse({"w1", "-l", "x"});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->command, "-l x");
}

TEST(RshCommand, EmptyWordsLeaveTheirBlankAsSshDoes) {
  const auto parsed = Parse({"w1", "echo", "", "a"});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->command, "echo  a");
}

TEST(RshCommand, LeadingOptionIsNamed) {
  EXPECT_THAT(ErrorOf({"-x", "w1", "true"}), HasSubstr("option -x"));
  EXPECT_THAT(ErrorOf({"-l", "user", "w1", "true"}), HasSubstr("option -l"));
  EXPECT_THAT(ErrorOf({"--", "w1", "true"}), HasSubstr("option --"));
}

TEST(RshCommand, NoHost) {
  EXPECT_THAT(ErrorOf({}), HasSubstr("no host"));
  EXPECT_THAT(ErrorOf({""}), HasSubstr("no host"));
  EXPECT_THAT(ErrorOf({"", "true"}), HasSubstr("no host"));
}

TEST(RshCommand, NoCommand) {
  EXPECT_THAT(ErrorOf({"w1"}), HasSubstr("no command"));
  EXPECT_THAT(ErrorOf({"w1", ""}), HasSubstr("no command"));
  EXPECT_THAT(ErrorOf({"w1", " ", "\t"}), HasSubstr("no command"));
}

TEST(RshCommand, LongestCommandPassesAndOneByteMoreDoesNot) {
  EXPECT_TRUE(Parse({"w1", std::string(kMaxRshCommandBytes, 'x')}));
  EXPECT_THAT(ErrorOf({"w1", std::string(kMaxRshCommandBytes + 1, 'x')}), HasSubstr("1048577"));
}

TEST(RshCommand, LongHostIsRefused) {
  EXPECT_TRUE(Parse({std::string(kMaxRshNameBytes, 'h'), "true"}));
  EXPECT_THAT(ErrorOf({std::string(kMaxRshNameBytes + 1, 'h'), "true"}), HasSubstr("host"));
}

TEST(RshCommand, EnvironmentMissingOrEmptyNamesTheVariable) {
  std::string error;
  EXPECT_FALSE(ReadRshEnvironment("1", nullptr, &error));
  EXPECT_THAT(error, HasSubstr("MPILAUNCH_RSH_SOCKET"));
  EXPECT_FALSE(ReadRshEnvironment("1", "", &error));
  EXPECT_THAT(error, HasSubstr("MPILAUNCH_RSH_SOCKET"));
  EXPECT_FALSE(ReadRshEnvironment(nullptr, "/s", &error));
  EXPECT_THAT(error, HasSubstr("MPILAUNCH_JOB"));
  const auto environment = ReadRshEnvironment("17", "/s", &error);
  ASSERT_TRUE(environment);
  EXPECT_EQ(environment->job, "17");
  EXPECT_EQ(environment->socket_path, "/s");
}

TEST(RshCommand, FailureIsOneLineWhateverTheReasonHolds) {
  EXPECT_EQ(FormatRshFailure("w1", "gone"), "mpilaunch-rsh: w1: gone\n");
  EXPECT_EQ(FormatRshFailure("", "gone"), "mpilaunch-rsh: gone\n");
  EXPECT_EQ(FormatRshFailure("w1", "a\nb\r\n\x1b[1m"), "mpilaunch-rsh: w1: a b   [1m\n");
  EXPECT_EQ(FormatRshFailure("w1", ""), "mpilaunch-rsh: w1: failed without a reason\n");
}

// Whatever comes in, it is either refused with one line or taken whole.
TEST(RshCommand, RandomArguments) {
  std::mt19937 random(1);
  const std::string letters = "-a \t\n\"';$\\\xff";
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> arguments(random() % 5);
    size_t bytes = 0;
    for (std::string& word : arguments) {
      for (size_t n = random() % 4; n > 0; --n) word += letters[random() % letters.size()];
      bytes += word.size();
    }
    std::string error;
    const auto parsed = ParseRshCommand(arguments, &error);
    ASSERT_EQ(parsed.has_value(), error.empty());
    if (!parsed) continue;
    ASSERT_EQ(parsed->host, arguments[0]);
    ASSERT_EQ(parsed->host.size() + parsed->command.size(), bytes + arguments.size() - 2);
  }
}

}  // namespace
}  // namespace mpilaunch
