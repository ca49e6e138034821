// Frames between mpilaunch-rsh and mpilaunchd over the Unix socket. Pure: bytes in, bytes out.
//
//   client -> daemon   kRequest, then kStdin*, then kStdinEnd
//   daemon -> client   (kStdout | kStderr)*, then kExit
//
// A frame is one byte of type, four of length (big-endian), and the payload. A client that closes
// the socket before kExit cancels its command; a daemon that does has lost it.
#ifndef MPILAUNCH_LAUNCHER_RSH_RSH_PROTOCOL_H_
#define MPILAUNCH_LAUNCHER_RSH_RSH_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mpilaunch {

inline constexpr uint32_t kRshProtocolVersion = 1;
inline constexpr size_t kMaxRshCommandBytes = 1 << 20;
inline constexpr size_t kMaxRshNameBytes = 255;  // job id, host
inline constexpr size_t kMaxRshReasonBytes = 4096;
inline constexpr size_t kMaxRshDataBytes = 64 << 10;
inline constexpr size_t kMaxRshPayloadBytes = kMaxRshCommandBytes + 1024;

// What a client exits with when it failed itself, like ssh: mpirun takes it as "the daemon could
// not be started". Daemons send it in kExit for their own failures too.
inline constexpr int kRshFailed = 255;

enum class RshFrameType : uint8_t {
  kRequest = 1,
  kStdin = 2,
  kStdinEnd = 3,
  kStdout = 4,
  kStderr = 5,
  kExit = 6,
};

struct RshFrame {
  RshFrameType type = RshFrameType::kRequest;
  std::string payload;
};

struct RshRequest {
  std::string job;
  std::string host;
  std::string command;
};

struct RshExit {
  int code = 0;  // 0 to 255
  std::string
      reason;  // why the command could not be run or followed; empty when it ended by itself
};

std::string EncodeRshRequest(const RshRequest& request);
// Any number of bytes, as frames of at most kMaxRshDataBytes. No bytes, no frame.
std::string EncodeRshData(RshFrameType type, std::string_view bytes);
std::string EncodeRshStdinEnd();
std::string EncodeRshExit(const RshExit& exit);  // a longer reason is cut to kMaxRshReasonBytes

// Of a frame's payload. False, with one line in `error`: torn, too long, or another version.
bool DecodeRshRequest(std::string_view payload, RshRequest* request, std::string* error);
bool DecodeRshExit(std::string_view payload, RshExit* exit, std::string* error);

// Cuts a byte stream into frames, however it was split. Holds at most one frame more than was asked
// for by Next(). Not thread-safe.
class RshFrameDecoder {
 public:
  enum class Result {
    kFrame,
    kNeedMore,
    kCorrupt,  // for good: the stream can not be followed any more; see error()
  };

  void Append(std::string_view bytes) { buffer_.append(bytes); }
  Result Next(RshFrame* frame);
  const std::string& error() const { return error_; }

 private:
  bool CheckHeader(uint8_t type, size_t length);

  std::string buffer_;
  size_t consumed_ = 0;  // of buffer_
  std::string error_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_RSH_RSH_PROTOCOL_H_
