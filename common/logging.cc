#include "common/logging.h"

// Header-only formatting: a shared fmt library would be one more file that an image must have.
#ifndef FMT_HEADER_ONLY
#define FMT_HEADER_ONLY
#endif
#include <grpc/support/log.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace mpilaunch {
namespace {

absl::string_view LevelName(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::debug:
      return "debug";
    case spdlog::level::warn:
      return "warn";
    case spdlog::level::err:
      return "error";
    default:
      return "info";
  }
}

std::optional<spdlog::level::level_enum> ParseLevel(absl::string_view name) {
  if (name == "off") return spdlog::level::off;
  for (auto level :
       {spdlog::level::debug, spdlog::level::info, spdlog::level::warn, spdlog::level::err}) {
    if (name == LevelName(level)) return level;
  }
  return std::nullopt;
}

std::string FormatMoment(spdlog::log_clock::time_point moment) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", absl::FromChrono(moment), absl::UTCTimeZone());
}

// One event is one line: what a message quotes from elsewhere cannot fake a second one.
std::string OneLine(absl::string_view message) {
  std::string line;
  line.reserve(message.size());
  for (const char c : message) {
    if (c == '\n') {
      line += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&line, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      line += c;
    }
  }
  return line;
}

class LineFormatter final : public spdlog::formatter {
 public:
  explicit LineFormatter(bool json) : json_(json) {}

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string time = FormatMoment(message.time);
    const absl::string_view level = LevelName(message.level);
    const absl::string_view text(message.payload.data(), message.payload.size());
    const std::string line =
        json_ ? Json(time, level, text) : absl::StrCat(time, " ", level, " ", OneLine(text), "\n");
    out.append(line.data(), line.data() + line.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<LineFormatter>(json_);
  }

 private:
  static std::string Json(const std::string& time, absl::string_view level,
                          absl::string_view text) {
    const nlohmann::ordered_json line = {
        {"time", time}, {"level", std::string(level)}, {"message", std::string(text)}};
    // A message may quote bytes that are no UTF-8; they must not throw.
    return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }

  const bool json_;
};

// Never destroyed: other threads may log until the very end of the process.
spdlog::logger& Logger() {
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger("mpilaunch", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::info);
    made->set_formatter(std::make_unique<LineFormatter>(/*json=*/false));
    return made;
  }();
  return *logger;
}

void Log(spdlog::level::level_enum level, absl::string_view message) {
  Logger().log(level, spdlog::string_view_t(message.data(), message.size()));
}

// gRPC writes its own lines to stderr otherwise, in a third format. What it calls an error (a
// refused handshake, say) is one only to the connection.
void LogForGrpc(gpr_log_func_args* args) {
  Log(args->severity == GPR_LOG_SEVERITY_ERROR ? spdlog::level::warn : spdlog::level::debug,
      absl::StrCat("grpc: ", args->message));
}

}  // namespace

absl::Status InitLogging(const LoggingOptions& options) {
  const auto level = ParseLevel(options.level);
  if (!level.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("log level \"", options.level, "\" is none of debug, info, warn, error, off"));
  }
  if (options.format != "text" && options.format != "json") {
    return absl::InvalidArgumentError(
        absl::StrCat("log format \"", options.format, "\" is neither text nor json"));
  }
  Logger().set_formatter(std::make_unique<LineFormatter>(options.format == "json"));
  Logger().set_level(*level);
  gpr_set_log_function(LogForGrpc);
  return absl::OkStatus();
}

void LogDebug(absl::string_view message) { Log(spdlog::level::debug, message); }
void LogInfo(absl::string_view message) { Log(spdlog::level::info, message); }
void LogWarning(absl::string_view message) { Log(spdlog::level::warn, message); }
void LogError(absl::string_view message) { Log(spdlog::level::err, message); }

}  // namespace mpilaunch
