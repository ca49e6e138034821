// One remote command through mpilaunchd's rsh socket: sends the request and relays bytes until the
// command's exit code is here.
#ifndef MPILAUNCH_LAUNCHER_RSH_RSH_CLIENT_H_
#define MPILAUNCH_LAUNCHER_RSH_RSH_CLIENT_H_

#include <string>

#include "launcher/rsh/rsh_protocol.h"

namespace mpilaunch {

// Blocks, relaying fds 0, 1 and 2 of this process; their O_NONBLOCK is not touched, because mpirun
// shares them. A closed stdout or stderr drops what would be written there. Needs SIGPIPE ignored.
// The code is the command's; kRshFailed and a reason when mpilaunchd can not be reached, is lost,
// speaks another protocol, or says that it could not run the command.
RshExit RunRshClient(const RshRequest& request, const std::string& socket_path);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_RSH_RSH_CLIENT_H_
