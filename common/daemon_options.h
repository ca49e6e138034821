// The options that both daemons have, and how a command line ends that cannot be used.
#ifndef MPILAUNCH_COMMON_DAEMON_OPTIONS_H_
#define MPILAUNCH_COMMON_DAEMON_OPTIONS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "common/exit_codes.h"
#include "common/logging.h"

namespace mpilaunch {

inline void AddDaemonOptions(CLI::App& app, uint64_t& store_bytes, LoggingOptions& logging) {
  app.set_config("--config", "", "Read options from this TOML file", false);
  app.add_option("--store-bytes", store_bytes, "How many bytes of pushed files to keep")
      ->envname("MPILAUNCH_STORE_BYTES")
      ->capture_default_str();
  app.add_option("--log-level", logging.level, "debug, info, warn, error or off")
      ->envname("MPILAUNCH_LOG_LEVEL")
      ->capture_default_str();
  app.add_option("--log-format", logging.format, "text or json")
      ->envname("MPILAUNCH_LOG_FORMAT")
      ->capture_default_str();
  app.set_version_flag("--version", MPILAUNCH_VERSION);
}

// Parses and then calls `check`. Help and errors are printed here; returns the exit code that main
// is to end with, or -1 to go on.
inline int ParseDaemonOptions(CLI::App& app, int argc, char** argv,
                              const std::function<absl::Status()>& check) {
  try {
    app.parse(argc, argv);
    if (absl::Status status = check(); !status.ok()) {
      throw CLI::ValidationError(std::string(status.message()));
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  return -1;
}

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_DAEMON_OPTIONS_H_
