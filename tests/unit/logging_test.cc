#include "common/logging.h"

#include <gmock/gmock.h>
#include <grpc/support/log.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace mpilaunch {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

template <typename Act>
std::string StderrOf(Act act) {
  testing::internal::CaptureStderr();
  act();
  return testing::internal::GetCapturedStderr();
}

TEST(LoggingTest, TextIsOneLinePerMessage) {
  ASSERT_TRUE(InitLogging({"info", "text"}).ok());
  const std::string seen = StderrOf([] { LogInfo("worker=a lost\nworker=b \x1b[31mred {} 100%"); });
  EXPECT_THAT(seen, EndsWith("Z info worker=a lost\\nworker=b \\x1b[31mred {} 100%\n"));
}

TEST(LoggingTest, JsonSurvivesQuotesControlCharactersAndBrokenUtf8) {
  ASSERT_TRUE(InitLogging({"info", "json"}).ok());
  const std::string seen = StderrOf([] { LogError("a \"b\"\n\x01 \xff end"); });
  ASSERT_EQ(std::count(seen.begin(), seen.end(), '\n'), 1) << seen;
  const auto line = nlohmann::json::parse(seen);
  EXPECT_EQ(line["level"], "error");
  EXPECT_EQ(line["message"], "a \"b\"\n\x01 \xEF\xBF\xBD end");
  EXPECT_EQ(line["time"].get<std::string>().size(), std::string("2030-01-31T12:00:00.000Z").size());
}

TEST(LoggingTest, LevelHidesWhatIsBelow) {
  ASSERT_TRUE(InitLogging({"warn", "text"}).ok());
  EXPECT_EQ(StderrOf([] {
              LogDebug("one");
              LogInfo("two");
            }),
            "");
  EXPECT_THAT(StderrOf([] { LogWarning("three"); }), HasSubstr(" warn three"));
  ASSERT_TRUE(InitLogging({"off", "text"}).ok());
  EXPECT_EQ(StderrOf([] { LogError("four"); }), "");
}

TEST(LoggingTest, GrpcWritesInOurFormat) {
  ASSERT_TRUE(InitLogging({"info", "text"}).ok());
  gpr_log_verbosity_init();  // as grpc_init does
  EXPECT_THAT(StderrOf([] { gpr_log(GPR_ERROR, "handshake %d", 7); }),
              EndsWith("Z warn grpc: handshake 7\n"));
}

TEST(LoggingTest, BadOptionsAreNamed) {
  const absl::Status level = InitLogging({"loud", "text"});
  EXPECT_TRUE(absl::IsInvalidArgument(level));
  EXPECT_THAT(std::string(level.message()), HasSubstr("\"loud\""));
  const absl::Status format = InitLogging({"info", "xml"});
  EXPECT_TRUE(absl::IsInvalidArgument(format));
  EXPECT_THAT(std::string(format.message()), HasSubstr("\"xml\""));
}

}  // namespace
}  // namespace mpilaunch
