#include "launcher/rsh/rsh_command.h"

#include "launcher/rsh/rsh_protocol.h"

namespace mpilaunch {
namespace {

constexpr std::string_view kUsage = "; mpirun calls it as: mpilaunch-rsh HOST COMMAND...";

std::string JoinWithBlanks(std::vector<std::string>::const_iterator first,
                           std::vector<std::string>::const_iterator last) {
  std::string joined;
  for (auto word = first; word != last; ++word) {
    if (word != first) joined += ' ';
    joined += *word;
  }
  return joined;
}

bool IsBlank(std::string_view text) {
  return text.find_first_not_of(" \t\n") == std::string_view::npos;
}

std::string CheckHost(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0].empty()) return "no host given" + std::string(kUsage);
  const std::string& host = arguments[0];
  if (host[0] == '-') {
    return "option " + host + " is not known, there are none: leave plm_rsh_args and -l unset" +
           std::string(kUsage);
  }
  if (host.size() > kMaxRshNameBytes) return "the host name is too long";
  return "";
}

}  // namespace

std::optional<RshCommand> ParseRshCommand(const std::vector<std::string>& arguments,
                                          std::string* error) {
  *error = CheckHost(arguments);
  if (!error->empty()) return std::nullopt;
  RshCommand parsed{arguments[0], JoinWithBlanks(arguments.begin() + 1, arguments.end())};
  if (IsBlank(parsed.command)) {
    *error = "no command given" + std::string(kUsage);
    return std::nullopt;
  }
  if (parsed.command.size() > kMaxRshCommandBytes) {
    *error = "the command is " + std::to_string(parsed.command.size()) + " bytes long, at most " +
             std::to_string(kMaxRshCommandBytes) + " are possible";
    return std::nullopt;
  }
  return parsed;
}

std::optional<RshEnvironment> ReadRshEnvironment(const char* job, const char* socket_path,
                                                 std::string* error) {
  const bool has_job = job != nullptr && *job != '\0';
  const bool has_socket = socket_path != nullptr && *socket_path != '\0';
  if (!has_job || !has_socket) {
    *error = std::string(has_socket ? "MPILAUNCH_JOB" : "MPILAUNCH_RSH_SOCKET") +
             " is not set: mpilaunch-rsh is for the mpirun that mpilaunchd starts";
    return std::nullopt;
  }
  return RshEnvironment{job, socket_path};
}

std::string FormatRshFailure(std::string_view host, std::string_view reason) {
  std::string line = "mpilaunch-rsh: ";
  if (!host.empty()) line.append(host).append(": ");
  line.append(reason.empty() ? "failed without a reason" : reason);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  }
  return line + "\n";
}

}  // namespace mpilaunch
