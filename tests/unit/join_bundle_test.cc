#include "common/join_bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/unit/trust_testing.h"

namespace mpilaunch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

const absl::Time kExpires = absl::FromUnixSeconds(1900000000);  // 2030-03-17T17:46:40Z

JoinBundle Example() {
  static const std::string* const ca_pem = [] {
    const TemporaryFolder folder;
    return new std::string(NewAuthority(folder / "ca")->certificate_pem());
  }();
  JoinBundle bundle;
  bundle.cluster = "04aeb2f5";
  bundle.role = Role::kClient;
  bundle.token = "secret.seal";
  bundle.expires = kExpires;
  bundle.ca_pem = *ca_pem;
  bundle.enrol_port = 7432;
  bundle.control_port = 65535;
  return bundle;
}

std::string MessageOf(const absl::StatusOr<JoinBundle>& result) {
  return std::string(result.status().message());
}

// The example with one field changed or, with null, removed.
std::string With(const std::string& field, const Json& value) {
  Json json = Json::parse(FormatJoinBundle(Example()));
  if (value.is_null()) {
    json.erase(field);
  } else {
    json[field] = value;
  }
  return json.dump();
}

TEST(JoinBundleTest, ReadsWhatItWrites) {
  const TemporaryFolder folder;
  const std::string path = folder / "worker.json";
  ASSERT_TRUE(WriteJoinBundle(path, Example()).ok());
  const auto read = ReadJoinBundle(path, kExpires - absl::Seconds(1));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->cluster, "04aeb2f5");
  EXPECT_EQ(read->role, Role::kClient);
  EXPECT_EQ(read->token, "secret.seal");
  EXPECT_EQ(read->expires, kExpires);
  EXPECT_EQ(read->ca_pem, Example().ca_pem);
  EXPECT_EQ(read->enrol_port, 7432);
  EXPECT_EQ(read->control_port, 65535);
}

TEST(JoinBundleTest, WritesForItsOwnerOnlyAndLeavesNothingBeside) {
  const TemporaryFolder folder;
  const std::string path = folder / "worker.json";
  Spill(path, "old and readable by all");
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  ASSERT_TRUE(WriteJoinBundle(path, Example()).ok());
  struct stat facts;
  ASSERT_EQ(stat(path.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0600u);
  const std::filesystem::directory_iterator files(folder / "");
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

TEST(JoinBundleTest, MissingFileSaysHowOneIsMade) {
  const auto read = ReadJoinBundle("/nowhere/worker.json", kExpires);
  EXPECT_TRUE(absl::IsNotFound(read.status())) << read.status();
  EXPECT_THAT(MessageOf(read), AllOf(HasSubstr("no join bundle at /nowhere/worker.json"),
                                     HasSubstr("STATE_DIR/join/worker.json")));
}

TEST(JoinBundleTest, FolderIsNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(MessageOf(ReadJoinBundle(folder / "", kExpires)), HasSubstr("is a folder"));
}

TEST(JoinBundleTest, ExpiredSaysWhen) {
  const TemporaryFolder folder;
  const std::string path = folder / "worker.json";
  ASSERT_TRUE(WriteJoinBundle(path, Example()).ok());
  const auto read = ReadJoinBundle(path, kExpires);
  EXPECT_TRUE(absl::IsFailedPrecondition(read.status())) << read.status();
  EXPECT_THAT(MessageOf(read),
              AllOf(HasSubstr(path), HasSubstr("expired at 2030-03-17T17:46:40Z")));
}

TEST(JoinBundleTest, TornAtAnyByteIsRefused) {
  std::string text = FormatJoinBundle(Example());
  text.pop_back();  // the newline at the end is not missed
  for (size_t size = 1; size < text.size(); ++size) {
    const auto parsed = ParseJoinBundle(text.substr(0, size));
    ASSERT_TRUE(absl::IsInvalidArgument(parsed.status())) << size;
    ASSERT_THAT(MessageOf(parsed), HasSubstr("torn: the JSON breaks off after")) << size;
  }
}

TEST(JoinBundleTest, EmptyAndForeignTextAreTold) {
  EXPECT_THAT(MessageOf(ParseJoinBundle("")), HasSubstr("the file is empty"));
  EXPECT_THAT(MessageOf(ParseJoinBundle(" \n")), HasSubstr("the file is empty"));
  EXPECT_THAT(MessageOf(ParseJoinBundle("-----BEGIN CERTIFICATE-----")),
              HasSubstr("not a join bundle: no JSON at byte"));
  EXPECT_THAT(MessageOf(ParseJoinBundle(std::string(5000, '['))), HasSubstr("torn"));
  for (const char* json : {"[]", "7", "null", "\"text\"", "{}", "{\"cluster\": \"x\"}"}) {
    EXPECT_THAT(MessageOf(ParseJoinBundle(json)),
                HasSubstr("has no field \"mpilaunch_join_bundle\""))
        << json;
  }
}

TEST(JoinBundleTest, EachMissingFieldIsNamed) {
  for (const char* field :
       {"cluster", "role", "expires", "enrol_port", "control_port", "token", "ca_certificate"}) {
    const auto parsed = ParseJoinBundle(With(field, nullptr));
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << field;
    EXPECT_THAT(MessageOf(parsed), HasSubstr(absl::StrCat("the field \"", field, "\" is missing")));
  }
}

TEST(JoinBundleTest, OtherVersionIsNamed) {
  EXPECT_THAT(MessageOf(ParseJoinBundle(With("mpilaunch_join_bundle", 2))),
              HasSubstr("its format is 2, this program reads format 1"));
  EXPECT_THAT(MessageOf(ParseJoinBundle(With("mpilaunch_join_bundle", "x"))),
              HasSubstr("its format is unknown"));
}

TEST(JoinBundleTest, FieldsOfTheWrongKindAreNamed) {
  for (const Json& port : {Json(0), Json(65536), Json(-1), Json(1.5), Json("7432"), Json(true)}) {
    EXPECT_THAT(MessageOf(ParseJoinBundle(With("enrol_port", port))),
                HasSubstr("\"enrol_port\" is no port"))
        << port;
  }
  EXPECT_THAT(MessageOf(ParseJoinBundle(With("token", 5))), HasSubstr("\"token\" holds no text"));
  EXPECT_THAT(MessageOf(ParseJoinBundle(With("token", ""))), HasSubstr("\"token\" holds no text"));
  EXPECT_THAT(MessageOf(ParseJoinBundle(With("expires", "soon"))), HasSubstr("is no time"));
  EXPECT_THAT(MessageOf(ParseJoinBundle(With("role", "king"))), HasSubstr("role \"king\""));
  EXPECT_THAT(MessageOf(ParseJoinBundle(With("ca_certificate", "-----BEGIN CERTIFICATE-----\nAA"))),
              HasSubstr("\"ca_certificate\" is not a whole certificate"));
}

TEST(JoinBundleTest, ErrorsNeverShowTheToken) {
  for (const char* field : {"role", "expires", "control_port", "ca_certificate"}) {
    EXPECT_THAT(MessageOf(ParseJoinBundle(With(field, nullptr))), Not(HasSubstr("secret")));
  }
  const std::string text = FormatJoinBundle(Example());
  EXPECT_THAT(MessageOf(ParseJoinBundle(text.substr(0, text.find("seal")))),
              Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace mpilaunch
