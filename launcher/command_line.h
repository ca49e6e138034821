// What was typed after `mpilaunch`, checked. Pure but for the help text, which it prints.
#ifndef MPILAUNCH_LAUNCHER_COMMAND_LINE_H_
#define MPILAUNCH_LAUNCHER_COMMAND_LINE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "job.pb.h"

namespace mpilaunch {

struct RunCommand {
  std::string program;  // as typed
  std::vector<std::string> arguments;
  uint32_t ranks = 0;                // 0: one per slot
  std::vector<std::string> exports;  // -x NAME or NAME=VALUE
  std::vector<std::string> staged;   // --stage, as typed
  std::string working_directory;
  bool oversubscribe = false;
  v1::Placement placement = v1::SPREAD;
  std::vector<std::pair<std::string, std::string>> mca;
  bool tag_output = false;
  uint32_t timeout_seconds = 0;
  uint32_t wait_seconds = 0;
  bool verbose = false;
  uint32_t local_workers = 0;  // --local=W; 0: the running frontend
  bool here = false;           // on the frontend's own slots
};
struct WorkersCommand {
  bool json = false;
};
struct JobsCommand {
  bool json = false;
};
struct CancelCommand {
  std::string job;
};

struct CommandLine {
  std::string socket;  // of the frontend
  std::variant<RunCommand, WorkersCommand, JobsCommand, CancelCommand> command;
  int exit_code = -1;  // >= 0: help or an error was printed, exit with it
};

CommandLine ParseCommandLine(const std::vector<std::string>& words);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_COMMAND_LINE_H_
