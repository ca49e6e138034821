#include "launcher/rsh/rsh_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;
using Result = RshFrameDecoder::Result;

std::vector<RshFrame> DecodeAll(RshFrameDecoder* decoder) {
  std::vector<RshFrame> frames;
  RshFrame frame;
  while (decoder->Next(&frame) == Result::kFrame) frames.push_back(frame);
  return frames;
}

std::vector<RshFrame> DecodeAll(std::string_view bytes) {
  RshFrameDecoder decoder;
  decoder.Append(bytes);
  return DecodeAll(&decoder);
}

std::string PayloadOf(const std::string& bytes) {
  const std::vector<RshFrame> frames = DecodeAll(bytes);
  EXPECT_EQ(frames.size(), 1u);
  return frames.empty() ? "" : frames[0].payload;
}

std::string Header(int type, uint32_t length) {
  return {static_cast<char>(type), static_cast<char>(length >> 24), static_cast<char>(length >> 16),
          static_cast<char>(length >> 8), static_cast<char>(length)};
}

TEST(RshProtocol, RequestComesBack) {
  const std::string nul_inside("a\0b", 3);
  const std::string payload = PayloadOf(EncodeRshRequest({"17", "w1", nul_inside}));
  RshRequest request;
  std::string error;
  ASSERT_TRUE(DecodeRshRequest(payload, &request, &error)) << error;
  EXPECT_EQ(request.job, "17");
  EXPECT_EQ(request.host, "w1");
  EXPECT_EQ(request.command, nul_inside);
}

TEST(RshProtocol, LongestRequestFitsAFrame) {
  const RshRequest longest = {std::string(kMaxRshNameBytes, 'j'),
                              std::string(kMaxRshNameBytes, 'h'),
                              std::string(kMaxRshCommandBytes, 'c')};
  RshRequest request;
  std::string error;
  ASSERT_TRUE(DecodeRshRequest(PayloadOf(EncodeRshRequest(longest)), &request, &error)) << error;
  EXPECT_EQ(request.command.size(), kMaxRshCommandBytes);
}

TEST(RshProtocol, TornRequestIsRefusedAtEveryLength) {
  const std::string payload = PayloadOf(EncodeRshRequest({"17", "w1", "true"}));
  RshRequest request;
  std::string error;
  for (size_t length = 0; length < payload.size(); ++length) {
    EXPECT_FALSE(DecodeRshRequest(payload.substr(0, length), &request, &error)) << length;
    EXPECT_EQ(error, "torn request");
  }
  EXPECT_FALSE(DecodeRshRequest(payload + "x", &request, &error));
}

TEST(RshProtocol, RequestWithoutJobHostOrCommandIsRefused) {
  RshRequest request;
  std::string error;
  for (const RshRequest& bad :
       {RshRequest{"", "w1", "c"}, RshRequest{"1", "", "c"}, RshRequest{"1", "w1", ""}}) {
    EXPECT_FALSE(DecodeRshRequest(PayloadOf(EncodeRshRequest(bad)), &request, &error));
    EXPECT_THAT(error, HasSubstr("without"));
  }
}

TEST(RshProtocol, OtherVersionIsNamed) {
  std::string payload = PayloadOf(EncodeRshRequest({"17", "w1", "true"}));
  payload[3] = 9;
  RshRequest request;
  std::string error;
  EXPECT_FALSE(DecodeRshRequest(payload, &request, &error));
  EXPECT_THAT(error, HasSubstr("version 9"));
}

TEST(RshProtocol, DataIsCutIntoFramesAndComesBack) {
  std::string data(kMaxRshDataBytes * 2 + 1, 'x');
  data[kMaxRshDataBytes] = 'y';
  const std::vector<RshFrame> frames = DecodeAll(EncodeRshData(RshFrameType::kStderr, data));
  ASSERT_EQ(frames.size(), 3u);
  std::string back;
  for (const RshFrame& frame : frames) {
    EXPECT_EQ(frame.type, RshFrameType::kStderr);
    back += frame.payload;
  }
  EXPECT_EQ(back, data);
  EXPECT_EQ(EncodeRshData(RshFrameType::kStdout, ""), "");
}

TEST(RshProtocol, ExitComesBack) {
  RshExit exit;
  std::string error;
  ASSERT_TRUE(DecodeRshExit(PayloadOf(EncodeRshExit({255, "w1 is lost"})), &exit, &error));
  EXPECT_EQ(exit.code, 255);
  EXPECT_EQ(exit.reason, "w1 is lost");
}

TEST(RshProtocol, LongReasonIsCut) {
  RshExit exit;
  std::string error;
  ASSERT_TRUE(
      DecodeRshExit(PayloadOf(EncodeRshExit({1, std::string(100000, 'r')})), &exit, &error));
  EXPECT_EQ(exit.reason.size(), kMaxRshReasonBytes);
}

TEST(RshProtocol, ExitCodeOutOfRangeOrTornIsRefused) {
  RshExit exit;
  std::string error;
  EXPECT_FALSE(DecodeRshExit(PayloadOf(EncodeRshExit({256, ""})), &exit, &error));
  EXPECT_FALSE(DecodeRshExit(PayloadOf(EncodeRshExit({-1, ""})), &exit, &error));
  EXPECT_FALSE(DecodeRshExit("", &exit, &error));
  EXPECT_FALSE(DecodeRshExit(PayloadOf(EncodeRshExit({1, "r"})) + "x", &exit, &error));
}

TEST(RshFrameDecoder, SurvivesEverySplit) {
  const std::string bytes = EncodeRshRequest({"17", "w1", "true"}) +
                            EncodeRshData(RshFrameType::kStdin, "in") + EncodeRshStdinEnd() +
                            EncodeRshExit({3, "r"});
  for (size_t first = 0; first <= bytes.size(); ++first) {
    for (size_t second = first; second <= bytes.size(); ++second) {
      RshFrameDecoder decoder;
      size_t frames = 0;
      const std::string_view all = bytes;
      for (std::string_view piece :
           {all.substr(0, first), all.substr(first, second - first), all.substr(second)}) {
        decoder.Append(piece);
        frames += DecodeAll(&decoder).size();
      }
      ASSERT_EQ(frames, 4u) << first << " " << second;
    }
  }
}

TEST(RshFrameDecoder, HostileLengthIsRefusedBeforeItsPayload) {
  RshFrame frame;
  for (const auto& [type, length] :
       std::vector<std::pair<int, uint32_t>>{{1, 0xffffffffu},
                                             {1, kMaxRshPayloadBytes + 1},
                                             {2, kMaxRshDataBytes + 1},
                                             {3, 1},
                                             {4, 0x80000000u},
                                             {5, 0x7fffffffu},
                                             {6, kMaxRshReasonBytes + 9}}) {
    RshFrameDecoder decoder;
    decoder.Append(Header(type, length));
    EXPECT_EQ(decoder.Next(&frame), Result::kCorrupt) << type << " " << length;
    EXPECT_FALSE(decoder.error().empty());
  }
}

TEST(RshFrameDecoder, LongestDataFrameIsWaitedFor) {
  RshFrameDecoder decoder;
  RshFrame frame;
  decoder.Append(Header(4, kMaxRshDataBytes));
  decoder.Append(std::string(kMaxRshDataBytes - 1, 'x'));
  EXPECT_EQ(decoder.Next(&frame), Result::kNeedMore);
  decoder.Append("x");
  EXPECT_EQ(decoder.Next(&frame), Result::kFrame);
}

TEST(RshFrameDecoder, UnknownTypeEndsItForGood) {
  RshFrameDecoder decoder;
  RshFrame frame;
  decoder.Append(EncodeRshData(RshFrameType::kStdout, "good") + Header(0, 0));
  EXPECT_EQ(decoder.Next(&frame), Result::kFrame);
  EXPECT_EQ(decoder.Next(&frame), Result::kCorrupt);
  EXPECT_THAT(decoder.error(), HasSubstr("unknown type 0"));
  decoder.Append(EncodeRshStdinEnd());
  EXPECT_EQ(decoder.Next(&frame), Result::kCorrupt);
}

// Random bytes, and good streams with some bytes changed: no crash, no frame beyond its bound, and
// the payload decoders agree with the bounds too. Run it under the asan preset to see more.
TEST(RshFrameDecoder, RandomBytes) {
  std::mt19937 random(1);
  const std::string good = EncodeRshRequest({"17", "w1", "true"}) +
                           EncodeRshData(RshFrameType::kStdout, "out") +
                           EncodeRshExit({1, "reason"});
  for (int round = 0; round < 50000; ++round) {
    std::string bytes = good;
    if (round % 2 == 0) bytes.assign(random() % 64, '\0');
    for (size_t n = round % 2 == 0 ? bytes.size() : random() % 4; n > 0; --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random() % (round % 3 == 0 ? 8 : 256));
    }
    RshFrameDecoder decoder;
    RshFrame frame;
    RshRequest request;
    RshExit exit;
    std::string error;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = 1 + random() % 16;
      decoder.Append(std::string_view(bytes).substr(at, size));
      at += size;
      while (decoder.Next(&frame) == Result::kFrame) {
        ASSERT_LE(frame.payload.size(), bytes.size());
        if (DecodeRshRequest(frame.payload, &request, &error)) {
          ASSERT_FALSE(request.command.empty());
        }
        if (DecodeRshExit(frame.payload, &exit, &error)) {
          ASSERT_LE(exit.code, 255);
        }
      }
    }
  }
}

}  // namespace
}  // namespace mpilaunch
