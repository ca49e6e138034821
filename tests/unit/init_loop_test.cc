#include "common/init_loop.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/process_scan.h"
#include "common/program_path.h"

namespace mpilaunch {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kPatience = absl::Seconds(60);

// What a child said and how it ended. Filled on the loop's thread.
class Outcome {
 public:
  void AddStdout(const std::string& bytes) {
    absl::MutexLock lock(&mutex_);
    stdout_ += bytes;
  }
  void AddStderr(const std::string& bytes) {
    absl::MutexLock lock(&mutex_);
    stderr_ += bytes;
  }
  void AddTaken(size_t bytes) {
    absl::MutexLock lock(&mutex_);
    taken_ += bytes;
  }
  void SetExit(ExitInfo exit) {
    absl::MutexLock lock(&mutex_);
    ++exits_;
    exit_ = exit;
  }

  std::string AwaitStdout(const std::string& wanted) {
    absl::MutexLock lock(&mutex_);
    auto seen = [&] {
      mutex_.AssertReaderHeld();
      return stdout_.find(wanted) != std::string::npos || exits_ > 0;
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&seen), kPatience));
    return stdout_;
  }
  void AwaitTaken(size_t bytes) {
    absl::MutexLock lock(&mutex_);
    auto taken = [&] {
      mutex_.AssertReaderHeld();
      return taken_ >= bytes;
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&taken), kPatience));
    EXPECT_EQ(taken_, bytes);
  }
  ExitInfo AwaitExit() {
    absl::MutexLock lock(&mutex_);
    auto exited = [&] {
      mutex_.AssertReaderHeld();
      return exits_ > 0;
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&exited), kPatience));
    EXPECT_EQ(exits_, 1);
    return exit_;
  }
  bool exited() {
    absl::MutexLock lock(&mutex_);
    return exits_ > 0;
  }
  std::string stdout_text() {
    absl::MutexLock lock(&mutex_);
    return stdout_;
  }
  std::string stderr_text() {
    absl::MutexLock lock(&mutex_);
    return stderr_;
  }

 private:
  absl::Mutex mutex_;
  std::string stdout_ ABSL_GUARDED_BY(mutex_);
  std::string stderr_ ABSL_GUARDED_BY(mutex_);
  size_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  int exits_ ABSL_GUARDED_BY(mutex_) = 0;
  ExitInfo exit_ ABSL_GUARDED_BY(mutex_);
};

struct Running {
  pid_t pid = 0;
  std::shared_ptr<Outcome> outcome;
};

SpawnRequest Collecting(std::vector<std::string> argv, const std::shared_ptr<Outcome>& outcome) {
  SpawnRequest request;
  request.argv = std::move(argv);
  request.environment = CurrentEnvironment();
  request.on_stdout = [outcome](std::string bytes) {
    outcome->AddStdout(bytes);
    return true;
  };
  request.on_stderr = [outcome](std::string bytes) {
    outcome->AddStderr(bytes);
    return true;
  };
  request.on_stdin_taken = [outcome](size_t bytes) { outcome->AddTaken(bytes); };
  request.on_exit = [outcome](ExitInfo exit) { outcome->SetExit(exit); };
  return request;
}

class InitLoopTest : public testing::Test {
 protected:
  void SetUp() override { StartLoop(); }

  void StartLoop() {
    auto started = InitLoop::Start([this](int signal) {
      absl::MutexLock lock(&mutex_);
      signals_.push_back(signal);
    });
    ASSERT_TRUE(started.ok()) << started.status();
    loop_ = *std::move(started);
  }

  Running Start(SpawnRequest request, std::shared_ptr<Outcome> outcome) {
    absl::StatusOr<pid_t> pid = loop_->Spawn(std::move(request));
    EXPECT_TRUE(pid.ok()) << pid.status();
    return {.pid = pid.value_or(0), .outcome = std::move(outcome)};
  }
  Running StartShell(const std::string& script, Stdio stdin_mode = Stdio::kNull) {
    auto outcome = std::make_shared<Outcome>();
    SpawnRequest request = Collecting({"/bin/sh", "-c", script}, outcome);
    request.stdin_mode = stdin_mode;
    return Start(std::move(request), outcome);
  }
  absl::Status SpawnStatus(std::vector<std::string> argv,
                           const std::string& working_directory = "") {
    SpawnRequest request;
    request.argv = std::move(argv);
    request.environment = CurrentEnvironment();
    request.working_directory = working_directory;
    request.on_exit = [](ExitInfo) { ADD_FAILURE() << "on_exit of what never started"; };
    return loop_->Spawn(std::move(request)).status();
  }
  std::string WriteFile(const std::string& name, const std::string& text, mode_t mode) {
    const std::string path = absl::StrCat(testing::TempDir(), "/init_loop_", getpid(), "_", name);
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }
  bool AwaitNoChildren();
  int AwaitSignal() {
    absl::MutexLock lock(&mutex_);
    auto arrived = [&] {
      mutex_.AssertReaderHeld();
      return !signals_.empty();
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&arrived), kPatience));
    return signals_.empty() ? 0 : signals_.front();
  }

  std::unique_ptr<InitLoop> loop_;
  absl::Mutex mutex_;
  std::vector<int> signals_ ABSL_GUARDED_BY(mutex_);
};

int CountChildren() {
  const pid_t self = getpid();
  std::ifstream list(absl::StrCat("/proc/self/task/", self, "/children"));
  int count = 0;
  for (std::string pid; list >> pid;) ++count;
  return count;
}

// The life of another child passes between two looks: the loop runs, so what there is to reap it
// reaps.
bool InitLoopTest::AwaitNoChildren() {
  const absl::Time deadline = absl::Now() + kPatience;
  while (CountChildren() > 0) {
    if (absl::Now() > deadline) return false;
    StartShell(":").outcome->AwaitExit();
  }
  return true;
}

TEST_F(InitLoopTest, OutputComesInOrderAndBeforeTheExit) {
  Running child =
      StartShell("i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; echo oops >&2; exit 3");
  const ExitInfo exit = child.outcome->AwaitExit();
  EXPECT_EQ(exit.code, 3);
  EXPECT_EQ(exit.signal, 0);
  std::string expected;
  for (int i = 0; i < 2000; ++i) absl::StrAppend(&expected, i, "\n");
  EXPECT_EQ(child.outcome->stdout_text(), expected);
  EXPECT_EQ(child.outcome->stderr_text(), "oops\n");
}

TEST_F(InitLoopTest, BareNameIsLookedUpInTheRequestsPath) {
  auto outcome = std::make_shared<Outcome>();
  SpawnRequest request = Collecting({"sh", "-c", "echo $PATH; exit 7"}, outcome);
  request.environment = {"PATH=/nonexistent:/bin"};
  EXPECT_EQ(Start(std::move(request), outcome).outcome->AwaitExit().code, 7);
  EXPECT_EQ(outcome->stdout_text(), "/nonexistent:/bin\n");
}

TEST_F(InitLoopTest, RunsInTheWorkingDirectory) {
  auto outcome = std::make_shared<Outcome>();
  SpawnRequest request = Collecting({"/bin/pwd"}, outcome);
  request.working_directory = "/usr/bin";
  Start(std::move(request), outcome).outcome->AwaitExit();
  EXPECT_EQ(outcome->stdout_text(), "/usr/bin\n");
}

TEST_F(InitLoopTest, ChildLeadsItsOwnSession) {
  Running child = StartShell("cut -d' ' -f5,6 /proc/$$/stat");
  child.outcome->AwaitExit();
  EXPECT_EQ(child.outcome->stdout_text(), absl::StrCat(child.pid, " ", child.pid, "\n"));
}

// Without a shell, which blocks signals of its own while it forks.
TEST_F(InitLoopTest, ChildHasDefaultSignalsAndAnEmptyMask) {
  auto outcome = std::make_shared<Outcome>();
  Start(Collecting({"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"}, outcome), outcome);
  outcome->AwaitExit();
  // glibc leaves its own two signals, 32 and 33, ignored in what it spawns.
  EXPECT_THAT(outcome->stdout_text(),
              AnyOf("SigBlk:\t0000000000000000\nSigIgn:\t0000000180000000\n",
                    "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"));
}

TEST_F(InitLoopTest, ChildInheritsNoDescriptors) {
  // Not close-on-exec, as a careless library leaves them.
  std::vector<int> leaked;
  for (int i = 0; i < 20; ++i) leaked.push_back(dup(STDERR_FILENO));
  Running neighbour = StartShell("cat", Stdio::kPipe);
  Running child = StartShell("ls /proc/$$/fd");
  child.outcome->AwaitExit();
  EXPECT_EQ(child.outcome->stdout_text(), "0\n1\n2\n");
  for (int fd : leaked) close(fd);
  loop_->CloseStdin(neighbour.pid);
  neighbour.outcome->AwaitExit();
}

TEST_F(InitLoopTest, WeKeepNoDescriptorOfAChildThatEnded) {
  auto count = [] {
    int entries = 0;
    for (int fd = 0; fd < 1024; ++fd) entries += fcntl(fd, F_GETFD) >= 0;
    return entries;
  };
  const int before = count();
  for (int i = 0; i < 20; ++i) StartShell("echo x", Stdio::kPipe).outcome->AwaitExit();
  EXPECT_FALSE(SpawnStatus({"/nonexistent"}).ok());
  EXPECT_EQ(count(), before);
}

TEST_F(InitLoopTest, KilledBySignalIsReportedAs128PlusSignal) {
  Running child = StartShell("echo up; kill -SEGV $$");
  const ExitInfo exit = child.outcome->AwaitExit();
  EXPECT_EQ(exit.signal, SIGSEGV);
  EXPECT_EQ(exit.code, 128 + SIGSEGV);
}

TEST_F(InitLoopTest, MissingProgram) {
  const absl::Status by_name = SpawnStatus({"no-such-program"});
  EXPECT_TRUE(absl::IsNotFound(by_name)) << by_name;
  EXPECT_THAT(by_name.message(), HasSubstr("no-such-program"));
  const absl::Status by_path = SpawnStatus({"/no/such/program"});
  EXPECT_TRUE(absl::IsNotFound(by_path)) << by_path;
  EXPECT_THAT(by_path.message(), HasSubstr("/no/such/program"));
}

TEST_F(InitLoopTest, NotExecutable) {
  const std::string path = WriteFile("plain", "data", 0644);
  const absl::Status status = SpawnStatus({path});
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr(path));
  EXPECT_TRUE(absl::IsPermissionDenied(SpawnStatus({"/usr/bin/"})));
}

TEST_F(InitLoopTest, ScriptWithMissingInterpreter) {
  const std::string path = WriteFile("script", "#!/no/such/interpreter\n", 0755);
  const absl::Status status = SpawnStatus({path});
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("interpreter"));
}

TEST_F(InitLoopTest, NotAProgramForThisMachine) {
  const absl::Status status = SpawnStatus({WriteFile("text", "no program\n", 0755)});
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(InitLoopTest, MissingWorkingDirectory) {
  const absl::Status status = SpawnStatus({"/bin/true"}, "/no/such/folder");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("working directory /no/such/folder"));
  EXPECT_TRUE(absl::IsFailedPrecondition(SpawnStatus({"/bin/true"}, "/bin/true")));
}

TEST_F(InitLoopTest, NoArguments) { EXPECT_TRUE(absl::IsInvalidArgument(SpawnStatus({}))); }

TEST_F(InitLoopTest, StdinOfTenMegabytesThroughCat) {
  std::string input;
  for (int i = 0; input.size() < 10'000'000; ++i) absl::StrAppend(&input, i, "\n");
  Running child = StartShell("cat", Stdio::kPipe);
  for (size_t at = 0; at < input.size(); at += 300'000)
    loop_->WriteStdin(child.pid, input.substr(at, 300'000));
  loop_->CloseStdin(child.pid);
  child.outcome->AwaitTaken(input.size());
  EXPECT_EQ(child.outcome->AwaitExit().code, 0);
  EXPECT_TRUE(child.outcome->stdout_text() == input);  // EXPECT_EQ would print it
}

TEST_F(InitLoopTest, StdinInPacketsGivesNoReadMoreThan4096Bytes) {
  auto outcome = std::make_shared<Outcome>();
  // dd's reads are counted as whole (65536 bytes) and partial ones: 300,000 bytes are 74 packets.
  SpawnRequest request =
      Collecting({"/bin/sh", "-c", "LC_ALL=C dd bs=65536 2>&1 >/dev/null"}, outcome);
  request.stdin_mode = Stdio::kPipe;
  request.stdin_in_packets = true;
  const absl::StatusOr<pid_t> pid = loop_->Spawn(std::move(request));
  ASSERT_TRUE(pid.ok()) << pid.status();
  loop_->WriteStdin(*pid, std::string(300'000, 'x'));
  loop_->CloseStdin(*pid);
  EXPECT_EQ(outcome->AwaitExit().code, 0);
  EXPECT_THAT(outcome->stdout_text(), HasSubstr("0+74 records in"));
  EXPECT_THAT(outcome->stdout_text(), HasSubstr("300000 bytes"));
}

TEST_F(InitLoopTest, StdinThatTheChildClosedIsDroppedSilently) {
  Running child = StartShell("exec <&-; echo closed; sleep 0.2; exit 5", Stdio::kPipe);
  child.outcome->AwaitStdout("closed");
  loop_->WriteStdin(child.pid, std::string(1'000'000, 'x'));
  loop_->WriteStdin(child.pid, "more");
  child.outcome->AwaitTaken(1'000'004);
  EXPECT_EQ(child.outcome->AwaitExit().code, 5);
}

TEST_F(InitLoopTest, StdinThatNobodyReadIsDroppedAtTheExit) {
  Running child = StartShell("echo up; exec sleep 100", Stdio::kPipe);
  child.outcome->AwaitStdout("up");
  loop_->WriteStdin(child.pid, std::string(1'000'000, 'x'));
  loop_->Signal(child.pid, SIGKILL);
  EXPECT_EQ(child.outcome->AwaitExit().signal, SIGKILL);
  child.outcome->AwaitTaken(1'000'000);
}

TEST_F(InitLoopTest, PausedChildIsHeldBackAndNothingIsLost) {
  constexpr size_t kBytes = 100'000'000;
  auto outcome = std::make_shared<Outcome>();
  auto received = std::make_shared<std::atomic<size_t>>(0);
  auto wrong = std::make_shared<std::atomic<size_t>>(0);
  auto paused = std::make_shared<absl::Notification>();
  SpawnRequest request =
      Collecting({"/bin/sh", "-c", absl::StrCat("head -c ", kBytes, " /dev/zero")}, outcome);
  request.on_stdout = [=](std::string bytes) {
    *wrong += bytes.size() - std::count(bytes.begin(), bytes.end(), '\0');
    const bool first = received->fetch_add(bytes.size()) == 0;
    if (first) paused->Notify();
    return !first;
  };
  Running child = Start(std::move(request), outcome);
  paused->WaitForNotification();
  const size_t at_pause = *received;
  // A second child's whole life passes meanwhile: the loop is not busy, and the paused pipe stays
  // unread.
  EXPECT_EQ(StartShell("sleep 0.3").outcome->AwaitExit().code, 0);
  EXPECT_EQ(*received, at_pause);
  EXPECT_LE(at_pause, 64u * 1024);
  EXPECT_FALSE(outcome->exited());

  loop_->Resume(child.pid);
  EXPECT_EQ(outcome->AwaitExit().code, 0);
  EXPECT_EQ(*received, kBytes);
  EXPECT_EQ(*wrong, 0u);
}

TEST_F(InitLoopTest, PauseOutlastsTheChildsExit) {
  auto outcome = std::make_shared<Outcome>();
  auto paused = std::make_shared<absl::Notification>();
  SpawnRequest request = Collecting({"/bin/sh", "-c", "echo one; sleep 0.1; echo two"}, outcome);
  request.drain_grace_ms = 1;
  request.on_stdout = [=](std::string bytes) {
    outcome->AddStdout(bytes);
    if (!paused->HasBeenNotified()) paused->Notify();
    return false;
  };
  Running child = Start(std::move(request), outcome);
  paused->WaitForNotification();
  EXPECT_EQ(StartShell("sleep 0.4").outcome->AwaitExit().code, 0);
  EXPECT_FALSE(outcome->exited()) << "the second line was not asked for yet";
  loop_->Resume(child.pid);
  EXPECT_EQ(outcome->AwaitExit().code, 0);
  EXPECT_EQ(outcome->stdout_text(), "one\ntwo\n");
}

TEST_F(InitLoopTest, GrandchildThatHoldsThePipeIsNotAwaited) {
  const absl::Time start = absl::Now();
  Running child = StartShell("sleep 100 & echo $!; exit 4");
  EXPECT_EQ(child.outcome->AwaitExit().code, 4);
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
  pid_t grandchild = 0;
  ASSERT_TRUE(absl::SimpleAtoi(child.outcome->stdout_text(), &grandchild));
  EXPECT_EQ(kill(grandchild, SIGKILL), 0) << "the grandchild must have been left alone";
}

TEST_F(InitLoopTest, GrandchildThatWritesWithoutEndIsNotAwaited) {
  Running child = StartShell("yes & echo $! >&2; exit 0");
  EXPECT_EQ(child.outcome->AwaitExit().code, 0);
  // Its reader is gone: `yes` has died of SIGPIPE or does so now.
}

TEST_F(InitLoopTest, SignalReachesTheWholeGroup) {
  Running child = StartShell("sleep 100 | sleep 100; :");
  loop_->Signal(child.pid, SIGKILL);
  EXPECT_EQ(child.outcome->AwaitExit().signal, SIGKILL);
}

TEST_F(InitLoopTest, TerminateKillsAChildThatIgnoresSigterm) {
  Running child = StartShell("trap '' TERM; echo up; while :; do sleep 0.05; done");
  child.outcome->AwaitStdout("up");
  const absl::Time start = absl::Now();
  loop_->Terminate(child.pid, absl::Milliseconds(200));
  EXPECT_EQ(child.outcome->AwaitExit().signal, SIGKILL);
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(200));
}

TEST_F(InitLoopTest, TerminateLetsAChildCleanUp) {
  Running child =
      StartShell("trap 'echo clean; exit 9' TERM; echo up; while :; do sleep 0.05; done");
  child.outcome->AwaitStdout("up");
  loop_->Terminate(child.pid, kPatience);
  EXPECT_EQ(child.outcome->AwaitExit().code, 9);
  EXPECT_THAT(child.outcome->stdout_text(), HasSubstr("clean"));
}

TEST_F(InitLoopTest, CallsForAProcessThatEndedAreIgnored) {
  Running child = StartShell(":", Stdio::kPipe);
  child.outcome->AwaitExit();
  loop_->Signal(child.pid, SIGKILL);
  loop_->WriteStdin(child.pid, "late");
  loop_->Resume(child.pid);
  loop_->CloseStdin(child.pid);
  loop_->Terminate(child.pid, absl::Milliseconds(1));
  EXPECT_EQ(StartShell("exit 0").outcome->AwaitExit().code, 0);
}

TEST_F(InitLoopTest, OurOwnProcessGroupIsNeverSignalled) {
  loop_->Signal(0, SIGKILL);
  loop_->Signal(-1, SIGKILL);
  EXPECT_EQ(StartShell("exit 0").outcome->AwaitExit().code, 0);
}

TEST_F(InitLoopTest, TwoHundredChildrenAtOnce) {
  std::vector<Running> children;
  for (int i = 0; i < 200; ++i)
    children.push_back(StartShell(absl::StrCat("read x; echo ", i, " $x; exit ", i), Stdio::kPipe));
  for (const Running& child : children) loop_->WriteStdin(child.pid, "go\n");
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(children[i].outcome->AwaitExit().code, i);
    EXPECT_EQ(children[i].outcome->stdout_text(), absl::StrCat(i, " go\n"));
  }
}

// Orphans that the loop never started; they die together, so that their SIGCHLDs coalesce.
TEST_F(InitLoopTest, AThousandOrphansAreReaped) {
  auto outcome = std::make_shared<Outcome>();
  const std::string entry = absl::StrCat("INIT_LOOP_ORPHANS=", getpid());
  SpawnRequest request = Collecting(
      {"/bin/sh", "-c",
       "i=0; while [ $i -lt 1000 ]; do (sleep 1000 >/dev/null 2>&1 &); i=$((i+1)); done"},
      outcome);
  request.environment.push_back(entry);
  Start(std::move(request), outcome);
  EXPECT_EQ(outcome->AwaitExit().code, 0);
  EXPECT_EQ(CountChildren(), 1000);
  for (pid_t orphan : FindProcessesByEnvironment(entry)) EXPECT_EQ(kill(orphan, SIGKILL), 0);
  EXPECT_TRUE(AwaitNoChildren());
}

TEST_F(InitLoopTest, SignalsArriveAtTheCallback) {
  kill(getpid(), SIGTERM);
  EXPECT_EQ(AwaitSignal(), SIGTERM);
}

TEST_F(InitLoopTest, SecondLoopIsRefused) {
  EXPECT_TRUE(absl::IsFailedPrecondition(InitLoop::Start(nullptr).status()));
}

TEST_F(InitLoopTest, EndOfTheLoopKillsReapsAndReports) {
  Running stubborn = StartShell("trap '' TERM INT HUP; echo up; while :; do sleep 0.05; done");
  stubborn.outcome->AwaitStdout("up");
  auto paused_outcome = std::make_shared<Outcome>();
  auto first = std::make_shared<absl::Notification>();
  SpawnRequest request = Collecting({"/usr/bin/yes"}, paused_outcome);
  request.on_stdout = [=](std::string) {
    if (!first->HasBeenNotified()) first->Notify();
    return false;
  };
  Start(std::move(request), paused_outcome);
  first->WaitForNotification();
  loop_.reset();
  EXPECT_TRUE(stubborn.outcome->exited());
  EXPECT_TRUE(paused_outcome->exited());
  EXPECT_EQ(kill(stubborn.pid, 0), -1);
  StartLoop();
  EXPECT_EQ(StartShell("exit 0").outcome->AwaitExit().code, 0);
}

TEST_F(InitLoopTest, FindsProcessesByExactEnvironmentEntry) {
  auto outcome = std::make_shared<Outcome>();
  const std::string entry = absl::StrCat("INIT_LOOP_TEST=", getpid());
  // It leaves its session and its parent.
  SpawnRequest request = Collecting(
      {"/bin/sh", "-c", "setsid sh -c 'echo $$; exec sleep 100' & exec sleep 100"}, outcome);
  request.environment.push_back(entry);
  Running child = Start(std::move(request), outcome);
  pid_t escaped = 0;
  ASSERT_TRUE(absl::SimpleAtoi(outcome->AwaitStdout("\n"), &escaped));
  loop_->Signal(child.pid, SIGKILL);
  outcome->AwaitExit();

  EXPECT_THAT(FindProcessesByEnvironment(entry), ElementsAre(escaped));
  EXPECT_THAT(FindProcessesByEnvironment(entry + "0"), IsEmpty());
  EXPECT_THAT(FindProcessesByEnvironment(entry.substr(0, entry.size() - 1)), IsEmpty());
  const KillReport report = KillProcessesByEnvironment(entry, kPatience);
  EXPECT_EQ(report.killed, 1);
  EXPECT_EQ(report.left, 0);
  EXPECT_THAT(FindProcessesByEnvironment(entry), IsEmpty());
}

TEST_F(InitLoopTest, ProcessesThatAreNotOursAreNotFound) {
  // Our parent has this entry too when we have it from there.
  const std::vector<std::string> ours = CurrentEnvironment();
  ASSERT_THAT(ours, SizeIs(Gt(0u)));
  EXPECT_THAT(FindProcessesByEnvironment(ours[0]), IsEmpty());
}

// Forks as fast as it can; every child of it has the entry too.
TEST_F(InitLoopTest, KillsWhatForksMeanwhile) {
  auto outcome = std::make_shared<Outcome>();
  const std::string entry = absl::StrCat("INIT_LOOP_STORM=", getpid());
  SpawnRequest request = Collecting(
      {"/bin/sh", "-c", "echo up; while :; do setsid sleep 100 & sleep 0.01; done"}, outcome);
  request.environment.push_back(entry);
  Start(std::move(request), outcome);
  outcome->AwaitStdout("up");
  const KillReport report = KillProcessesByEnvironment(entry, kPatience);
  EXPECT_GE(report.killed, 1);
  EXPECT_EQ(report.left, 0);
  EXPECT_THAT(FindProcessesByEnvironment(entry), IsEmpty());
  EXPECT_EQ(outcome->AwaitExit().signal, SIGKILL);
}

}  // namespace
}  // namespace mpilaunch

int main(int argc, char** argv) {
  mpilaunch::PrepareProcess();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
