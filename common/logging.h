// Log lines to stderr, as text or JSON. Never a token, a key or a value of the user's environment.
#ifndef MPILAUNCH_COMMON_LOGGING_H_
#define MPILAUNCH_COMMON_LOGGING_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mpilaunch {

struct LoggingOptions {
  std::string level = "info";   // debug, info, warn, error, off
  std::string format = "text";  // text, json
};

// Once, at the start of main. INVALID_ARGUMENT names the bad option. Until then: info, text. From
// then on gRPC's own messages come as lines "grpc: ..." too, its errors as warnings.
absl::Status InitLogging(const LoggingOptions& options);

// Any thread. Write one line per state transition, with worker= job= rank= where they are known.
void LogDebug(absl::string_view message);
void LogInfo(absl::string_view message);
void LogWarning(absl::string_view message);
void LogError(absl::string_view message);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_LOGGING_H_
