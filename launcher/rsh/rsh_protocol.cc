#include "launcher/rsh/rsh_protocol.h"

#include <algorithm>

namespace mpilaunch {
namespace {

constexpr size_t kHeaderBytes = 5;

void AppendUint32(uint32_t value, std::string* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

uint32_t ReadUint32(std::string_view bytes) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

void AppendString(std::string_view text, std::string* out) {
  AppendUint32(static_cast<uint32_t>(text.size()), out);
  out->append(text);
}

void AppendFrame(RshFrameType type, std::string_view payload, std::string* out) {
  out->push_back(static_cast<char>(type));
  AppendString(payload, out);
}

// Takes values off the front of a payload; false when it is too short or a string too long.
class PayloadReader {
 public:
  explicit PayloadReader(std::string_view bytes) : bytes_(bytes) {}

  bool Uint32(uint32_t* value) {
    if (bytes_.size() < 4) return false;
    *value = ReadUint32(bytes_);
    bytes_.remove_prefix(4);
    return true;
  }
  bool String(size_t max_bytes, std::string* text) {
    uint32_t length = 0;
    if (!Uint32(&length) || length > max_bytes || length > bytes_.size()) return false;
    text->assign(bytes_.substr(0, length));
    bytes_.remove_prefix(length);
    return true;
  }
  bool AtEnd() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
};

}  // namespace

std::string EncodeRshRequest(const RshRequest& request) {
  std::string payload;
  AppendUint32(kRshProtocolVersion, &payload);
  AppendString(request.job, &payload);
  AppendString(request.host, &payload);
  AppendString(request.command, &payload);
  std::string frame;
  AppendFrame(RshFrameType::kRequest, payload, &frame);
  return frame;
}

std::string EncodeRshData(RshFrameType type, std::string_view bytes) {
  std::string frames;
  frames.reserve(bytes.size() + kHeaderBytes * (bytes.size() / kMaxRshDataBytes + 1));
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kMaxRshDataBytes);
    AppendFrame(type, piece, &frames);
    bytes.remove_prefix(piece.size());
  }
  return frames;
}

std::string EncodeRshStdinEnd() {
  std::string frame;
  AppendFrame(RshFrameType::kStdinEnd, "", &frame);
  return frame;
}

std::string EncodeRshExit(const RshExit& exit) {
  std::string payload;
  AppendUint32(static_cast<uint32_t>(exit.code), &payload);
  AppendString(std::string_view(exit.reason).substr(0, kMaxRshReasonBytes), &payload);
  std::string frame;
  AppendFrame(RshFrameType::kExit, payload, &frame);
  return frame;
}

bool DecodeRshRequest(std::string_view payload, RshRequest* request, std::string* error) {
  PayloadReader reader(payload);
  uint32_t version = 0;
  if (!reader.Uint32(&version)) {
    *error = "torn request";
    return false;
  }
  if (version != kRshProtocolVersion) {
    *error = "mpilaunch-rsh speaks version " + std::to_string(version) + ", mpilaunchd version " +
             std::to_string(kRshProtocolVersion) + ": install both from one release";
    return false;
  }
  RshRequest decoded;
  if (!reader.String(kMaxRshNameBytes, &decoded.job) ||
      !reader.String(kMaxRshNameBytes, &decoded.host) ||
      !reader.String(kMaxRshCommandBytes, &decoded.command) || !reader.AtEnd()) {
    *error = "torn request";
    return false;
  }
  if (decoded.job.empty() || decoded.host.empty() || decoded.command.empty()) {
    *error = "request without a job, host or command";
    return false;
  }
  *request = std::move(decoded);
  return true;
}

bool DecodeRshExit(std::string_view payload, RshExit* exit, std::string* error) {
  PayloadReader reader(payload);
  uint32_t code = 0;
  std::string reason;
  if (!reader.Uint32(&code) || code > 255 || !reader.String(kMaxRshReasonBytes, &reason) ||
      !reader.AtEnd()) {
    *error = "torn exit code";
    return false;
  }
  *exit = {static_cast<int>(code), std::move(reason)};
  return true;
}

RshFrameDecoder::Result RshFrameDecoder::Next(RshFrame* frame) {
  if (!error_.empty()) return Result::kCorrupt;
  const std::string_view rest = std::string_view(buffer_).substr(consumed_);
  if (rest.size() >= kHeaderBytes) {
    const auto type = static_cast<uint8_t>(rest[0]);
    const size_t length = ReadUint32(rest.substr(1));
    // Before waiting for the payload, so that a hostile length is never waited for or stored.
    if (!CheckHeader(type, length)) return Result::kCorrupt;
    if (rest.size() - kHeaderBytes >= length) {
      frame->type = static_cast<RshFrameType>(type);
      frame->payload.assign(rest.substr(kHeaderBytes, length));
      consumed_ += kHeaderBytes + length;
      return Result::kFrame;
    }
  }
  buffer_.erase(0, consumed_);
  consumed_ = 0;
  return Result::kNeedMore;
}

bool RshFrameDecoder::CheckHeader(uint8_t type, size_t length) {
  size_t most = 0;
  switch (static_cast<RshFrameType>(type)) {
    case RshFrameType::kRequest:
      most = kMaxRshPayloadBytes;
      break;
    case RshFrameType::kStdin:
    case RshFrameType::kStdout:
    case RshFrameType::kStderr:
      most = kMaxRshDataBytes;
      break;
    case RshFrameType::kStdinEnd:
      break;
    case RshFrameType::kExit:
      most = kMaxRshReasonBytes + 8;
      break;
    default:
      error_ = "frame of unknown type " + std::to_string(type);
      return false;
  }
  if (length > most) {
    error_ = "frame of type " + std::to_string(type) + " with " + std::to_string(length) +
             " bytes, at most " + std::to_string(most) + " are possible";
  }
  return error_.empty();
}

}  // namespace mpilaunch
