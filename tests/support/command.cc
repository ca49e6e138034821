#include "support/command.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace mpilaunch::testing {
namespace {

std::pair<UniqueFd, UniqueFd> Pipe() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Only async-signal-safe calls: the test may have threads.
[[noreturn]] void BecomeChild(char** argv, char** environment, const char* folder, int in, int out,
                              int err) {
  dup2(in, 0);
  dup2(out, 1);
  dup2(err, 2);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  if (*folder != '\0' && chdir(folder) != 0) _exit(126);
  execvpe(argv[0], argv, environment);
  _exit(127);
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Command::Command(const std::vector<std::string>& argv, const Options& options)
    : started_(absl::Now()),
      patience_(options.patience),
      deadline_(started_ + patience_),
      input_(options.input),
      keep_stdin_open_(options.keep_stdin_open) {
  auto [child_in, in] = Pipe();
  auto [out, child_out] = Pipe();
  auto [err, child_err] = Pipe();
  std::vector<std::string> words = argv;
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  environment.insert(environment.end(), options.environment.begin(), options.environment.end());
  std::vector<char*> argv_pointers = Pointers(words);
  std::vector<char*> environment_pointers = Pointers(environment);
  pid_ = fork();
  if (pid_ == 0) {
    BecomeChild(argv_pointers.data(), environment_pointers.data(),
                options.working_directory.c_str(), child_in.get(), child_out.get(),
                child_err.get());
  }
  EXPECT_GT(pid_, 0) << absl::StrJoin(argv, " ");
  in_ = std::move(in);
  out_ = std::move(out);
  err_ = std::move(err);
  fcntl(in_.get(), F_SETFL, O_NONBLOCK);
  if (input_.empty() && !keep_stdin_open_) in_.reset();
}

Command::~Command() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void Command::Signal(int signal) { kill(pid_, signal); }

bool Command::ReadSome(absl::Time deadline) {
  pollfd watched[] = {{out_.get(), POLLIN, 0},
                      {err_.get(), POLLIN, 0},
                      {input_.empty() ? -1 : in_.get(), POLLOUT, 0}};
  const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
  if (left <= 0 || (!out_.valid() && !err_.valid())) return false;
  poll(watched, 3, static_cast<int>(left));
  std::pair<UniqueFd*, std::string*> streams[] = {{&out_, &result_.out}, {&err_, &result_.err}};
  for (int i = 0; i < 2; ++i) {
    if (!streams[i].first->valid() || watched[i].revents == 0) continue;
    char buffer[65536];
    const ssize_t n = read(streams[i].first->get(), buffer, sizeof(buffer));
    if (n > 0) {
      streams[i].second->append(buffer, static_cast<size_t>(n));
    } else {
      streams[i].first->reset();
    }
  }
  if (watched[2].revents != 0) {
    const ssize_t n = write(in_.get(), input_.data(), input_.size());
    input_.erase(0, n > 0 ? static_cast<size_t>(n) : input_.size());
    if (input_.empty() && !keep_stdin_open_) in_.reset();
  }
  return true;
}

bool Command::AwaitOutput(const std::string& text) {
  auto seen = [&] {
    return absl::StrContains(result_.out, text) || absl::StrContains(result_.err, text);
  };
  while (!seen() && ReadSome(deadline_)) {
  }
  return seen();
}

CommandResult Command::Finish() {
  while (ReadSome(deadline_)) {
  }
  if (absl::Now() >= deadline_) {
    ADD_FAILURE() << "still running after " << patience_ << "; stdout: " << result_.out
                  << "; stderr: " << result_.err;
    kill(pid_, SIGKILL);
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  result_.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result_.took = absl::Now() - started_;
  return result_;
}

CommandResult RunCommand(const std::vector<std::string>& argv, const Command::Options& options) {
  return Command(argv, options).Finish();
}

}  // namespace mpilaunch::testing
