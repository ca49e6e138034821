// The init loop where it matters: as PID 1 of a namespace. Each test runs this program anew as PID
// 1; its exit code is the verdict.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/init_loop.h"
#include "common/program_path.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr char kAsPid1[] = "--as-pid1";
constexpr int kOrphans = 300;

// ---- as PID 1 ----

std::unique_ptr<InitLoop> StartLoop(std::function<void(int)> on_signal) {
  return InitLoop::Start(std::move(on_signal)).value();
}

// Returns the exit code, -1 when the shell does not end.
int RunShell(InitLoop& loop, const std::string& script) {
  auto exited = std::make_shared<absl::Notification>();
  auto code = std::make_shared<int>(-1);
  SpawnRequest request;
  request.argv = {"sh", "-c", script};
  request.environment = CurrentEnvironment();
  request.on_exit = [=](ExitInfo exit) {
    *code = exit.code;
    exited->Notify();
  };
  if (!loop.Spawn(std::move(request)).ok()) return -1;
  return exited->WaitForNotificationWithTimeout(kPatience) ? *code : -1;
}

int CountProcesses() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    count += isdigit(static_cast<unsigned char>(entry.path().filename().string()[0])) != 0;
  }
  return count;
}

bool ReapsOrphans() {
  auto loop = StartLoop([](int) {});
  const std::string storm = absl::StrCat("i=0; while [ $i -lt ", kOrphans,
                                         " ]; do (sleep 0.2 >/dev/null 2>&1 &); i=$((i+1)); done");
  if (RunShell(*loop, storm) != 0) return false;
  // Other lives pass until the last orphan is reaped: PID 1 is alone then.
  for (int i = 0; i < 100 && CountProcesses() > 1; ++i) RunShell(*loop, "sleep 0.1");
  return CountProcesses() == 1;
}

// The kernel keeps signals without a handler away from a PID 1, unless they are blocked.
bool TakesSignal(int signal) {
  absl::Notification arrived;
  auto loop = StartLoop([&](int got) {
    if (got == signal && !arrived.HasBeenNotified()) arrived.Notify();
  });
  return RunShell(*loop, absl::StrCat("kill -", signal, " 1")) == 0 &&
         arrived.WaitForNotificationWithTimeout(kPatience);
}

bool HasStdio() {
  for (int fd : {0, 1, 2}) {
    std::error_code error;
    if (std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", fd), error) != "/dev/null")
      return false;
  }
  auto loop = StartLoop([](int) {});
  return RunShell(*loop, "echo x; cat; exit 6") == 6;
}

bool EndsEverything() {
  auto loop = StartLoop([](int) {});
  if (RunShell(*loop, "trap '' TERM; sleep 1000 >/dev/null 2>&1 & exit 0") != 0) return false;
  SpawnRequest request;
  request.argv = {"sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"};
  request.environment = CurrentEnvironment();
  if (!loop->Spawn(std::move(request)).ok()) return false;
  loop.reset();
  return true;  // what was orphaned dies with PID 1
}

int RunAsPid1(const std::string& what) {
  PrepareProcess();
  if (getpid() != 1) return 2;
  if (what == "reap") return ReapsOrphans() ? 0 : 1;
  if (what == "term") return TakesSignal(SIGTERM) ? 0 : 1;
  if (what == "usr1") return TakesSignal(SIGUSR1) ? 0 : 1;
  if (what == "stdio") return HasStdio() ? 0 : 1;
  if (what == "end") return EndsEverything() ? 0 : 1;
  return 3;
}

// ---- as a test ----

constexpr char kUnshare[] = "unshare --user --map-root-user --pid --fork --mount-proc ";

class InitPid1Test : public testing::Test {
 protected:
  void SetUp() override {
    if (system((std::string(kUnshare) + "true 2>/dev/null").c_str()) != 0) {
      GTEST_SKIP() << "no PID namespace may be made here";
    }
  }
  // `redirections` are the shell's.
  static int Verdict(const std::string& what, const std::string& redirections = "") {
    const std::string self = std::filesystem::read_symlink("/proc/self/exe");
    const int status =
        system(absl::StrCat(kUnshare, self, " ", kAsPid1, " ", what, " ", redirections).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
};

TEST_F(InitPid1Test, ReapsOrphansItNeverStarted) { EXPECT_EQ(Verdict("reap"), 0); }

TEST_F(InitPid1Test, TakesSignalsThatTheKernelKeepsFromPid1) {
  EXPECT_EQ(Verdict("term"), 0);
  EXPECT_EQ(Verdict("usr1"), 0);
}

TEST_F(InitPid1Test, StartsWithoutAnyStdio) { EXPECT_EQ(Verdict("stdio", "<&- >&- 2>&-"), 0); }

TEST_F(InitPid1Test, EndsThoughAChildIgnoresSigterm) { EXPECT_EQ(Verdict("end"), 0); }

}  // namespace
}  // namespace mpilaunch

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], mpilaunch::kAsPid1) == 0) return mpilaunch::RunAsPid1(argv[2]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
