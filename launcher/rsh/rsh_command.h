// The command line that mpirun gives to its rsh agent, read as ssh reads it. Pure.
#ifndef MPILAUNCH_LAUNCHER_RSH_RSH_COMMAND_H_
#define MPILAUNCH_LAUNCHER_RSH_RSH_COMMAND_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mpilaunch {

struct RshCommand {
  std::string host;
  std::string command;  // text for /bin/sh -c, quotes and all
};

// `arguments` is argv without argv[0]: HOST, then words that are joined with blanks and not quoted
// anew. Open MPI 4.1 relies on that (its quotes are literal), 5.0 too (one word holds several
// commands). Options are refused: there is no user, port or terminal to choose.
// Returns nothing and sets `error` (one line) when the arguments do not fit.
std::optional<RshCommand> ParseRshCommand(const std::vector<std::string>& arguments,
                                          std::string* error);

// The job id and socket that mpilaunchd put into the environment. Nothing and `error` as above.
struct RshEnvironment {
  std::string job;
  std::string socket_path;
};
std::optional<RshEnvironment> ReadRshEnvironment(const char* job, const char* socket_path,
                                                 std::string* error);

// What mpilaunch-rsh prints when it fails itself: "mpilaunch-rsh: HOST: reason\n", one line
// whatever `reason` holds. Without a host, "mpilaunch-rsh: reason\n".
std::string FormatRshFailure(std::string_view host, std::string_view reason);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_RSH_RSH_COMMAND_H_
