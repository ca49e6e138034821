// mpilaunchd: the certificate authority, the workers' registry, the job queue and mpirun in one
// process.
#ifndef MPILAUNCH_LAUNCHER_FRONTEND_H_
#define MPILAUNCH_LAUNCHER_FRONTEND_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/logging.h"

namespace mpilaunch {

struct FrontendOptions {
  std::string listen = "0.0.0.0";
  uint16_t control_port = 7431;  // 0: any
  uint16_t enrol_port = 7432;
  std::string state_dir;    // CA, token key, job counter, blobs
  std::string socket;       // of the command line
  std::string join_bundle;  // where the workers' bundle is written
  absl::Duration bundle_lifetime = absl::Hours(24 * 30);
  uint64_t store_bytes = 4ull << 30;
  int ready_fd = -1;  // one byte is written here when everything is up
  LoggingOptions logging;
};

// Flags > MPILAUNCH_* environment > file (--config) > default. Prints help or the error itself:
// `exit_code` >= 0 means that main returns it.
FrontendOptions ParseFrontendOptions(int argc, char** argv, int& exit_code);

class Frontend {
 public:
  // Returns when workers can enrol and clients can connect.
  static absl::StatusOr<std::unique_ptr<Frontend>> Start(const FrontendOptions& options);
  virtual ~Frontend() = default;

  // Blocks until SIGTERM or SIGINT, ends all jobs, returns the exit code (128 + signal).
  virtual int Wait() = 0;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_FRONTEND_H_
