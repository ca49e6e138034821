// Runs a program in a test: to its end, or step by step.
#ifndef MPILAUNCH_TESTS_SUPPORT_COMMAND_H_
#define MPILAUNCH_TESTS_SUPPORT_COMMAND_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/unique_fd.h"

namespace mpilaunch::testing {

struct CommandResult {
  int code = -1;  // 128 + signal when killed
  std::string out;
  std::string err;
  absl::Duration took;
};

class Command {
 public:
  struct Options {
    std::vector<std::string> environment;  // added to ours
    std::string working_directory;
    std::string input;             // all of its stdin; ignored with keep_stdin_open
    bool keep_stdin_open = false;  // nothing comes, and no end of file before CloseInput
    absl::Duration patience = absl::Seconds(60);
  };
  // Starts it; the test fails when that is impossible.
  Command(const std::vector<std::string>& argv, const Options& options);
  explicit Command(const std::vector<std::string>& argv) : Command(argv, Options{}) {}
  ~Command();  // SIGKILL when still running

  pid_t pid() const { return pid_; }
  void Signal(int signal);
  void CloseOutput() { out_.reset(); }
  void CloseInput() { in_.reset(); }
  // Reads until stdout or stderr holds `text`. False: it ended, or patience did, without.
  bool AwaitOutput(const std::string& text);
  // Reads to the end. When patience ends it is killed.
  CommandResult Finish();

 private:
  bool ReadSome(absl::Time deadline);

  absl::Time started_;
  absl::Duration patience_;
  absl::Time deadline_;
  pid_t pid_ = -1;
  UniqueFd in_, out_, err_;
  std::string input_;
  bool keep_stdin_open_;
  CommandResult result_;
};

CommandResult RunCommand(const std::vector<std::string>& argv,
                         const Command::Options& options = {});

}  // namespace mpilaunch::testing

#endif  // MPILAUNCH_TESTS_SUPPORT_COMMAND_H_
