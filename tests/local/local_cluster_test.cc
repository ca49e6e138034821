// The local cluster's namespaces, and that nothing survives it. Most tests put scripts in the place
// of mpilaunchd and mpilaunch-agent, which say through a FIFO what they see; the last ones start
// the real programs. Each runs in a child process, the client, as root (if we are) and as another
// user.
#include "launcher/local_cluster.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/unique_fd.h"
#include "launcher/local_cluster_init.h"

namespace mpilaunch {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

constexpr uid_t kOtherUser = 65534;
constexpr int kPatienceMs = 30000;  // for what takes milliseconds

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<pid_t> AllProcesses() {
  std::vector<pid_t> pids;
  for (const auto& each : fs::directory_iterator("/proc")) {
    pid_t pid;
    if (absl::SimpleAtoi(each.path().filename().string(), &pid)) pids.push_back(pid);
  }
  return pids;
}

// Processes that run a program of the cluster: their environment holds `entry`.
std::vector<pid_t> FindDaemons(const std::string& entry) {
  std::vector<pid_t> found;
  for (const pid_t pid : AllProcesses()) {
    const std::vector<std::string> environment =
        absl::StrSplit(ReadFile(absl::StrCat("/proc/", pid, "/environ")), '\0');
    if (std::count(environment.begin(), environment.end(), entry) > 0) found.push_back(pid);
  }
  return found;
}

// In the order of their start.
std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  for (const pid_t pid : AllProcesses()) {
    if (absl::StrContains(ReadFile(absl::StrCat("/proc/", pid, "/status")),
                          absl::StrCat("\nPPid:\t", parent, "\n"))) {
      children.push_back(pid);
    }
  }
  std::sort(children.begin(), children.end());
  return children;
}

std::vector<UniqueFd> Watch(const std::vector<pid_t>& pids) {
  std::vector<UniqueFd> processes;
  for (const pid_t pid : pids) {
    processes.emplace_back(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    EXPECT_TRUE(processes.back().valid()) << pid;
  }
  return processes;
}

void ExpectAllEnd(const std::vector<UniqueFd>& processes) {
  for (const UniqueFd& process : processes) {
    pollfd ended = {process.get(), POLLIN, 0};
    EXPECT_EQ(poll(&ended, 1, kPatienceMs), 1);
  }
}

// What a stand-in saw.
struct Facts {
  std::string program, host, pid, tmp, shm;
  std::vector<std::string> namespaces;  // uts, pid, mnt, ipc, net
  std::string processes, arguments;
};

// Stand-ins and the FIFO lie in a folder that the cluster does not cover.
class LocalClusterTest : public ::testing::TestWithParam<bool> {  // true: as the other user
 protected:
  LocalClusterTest() {
    if (GetParam() && geteuid() != 0) return;
    char name[] = "/var/tmp/local_cluster_test.XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    mark_ = folder_.filename();
    chmod(folder_.c_str(), 0777);
    programs_ = folder_ / "bin";
    fs::create_directory(programs_);
    EXPECT_EQ(mkfifo((folder_ / "facts").c_str(), 0666), 0);
    chmod((folder_ / "facts").c_str(), 0666);
    // For both directions, so that neither side waits for the other to open it.
    facts_.reset(open((folder_ / "facts").c_str(), O_RDWR | O_CLOEXEC));
    WriteScript("mpilaunchd", Script("echo >&3\n"));
    WriteScript("mpilaunch-agent", Script(""));
    WriteScript("mpilaunch-rsh", "");
    // Mounts that others make meanwhile, such as a Docker daemon's, are not to be seen here.
    if (geteuid() == 0) {
      EXPECT_EQ(unshare(CLONE_NEWNS), 0);
      EXPECT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    }
    mounts_ = ReadFile("/proc/self/mountinfo");
  }
  ~LocalClusterTest() override {
    if (folder_.empty()) return;
    EXPECT_THAT(FindDaemons(Entry()), IsEmpty());
    EXPECT_EQ(ReadFile("/proc/self/mountinfo"), mounts_);
    for (const char* covered : {"/tmp", "/dev/shm"}) {
      for (const auto& each : fs::directory_iterator(covered)) {
        EXPECT_THAT(each.path().filename(), Not(HasSubstr(mark_)));
      }
    }
    fs::remove_all(folder_);
  }
  void SetUp() override {
    if (folder_.empty()) GTEST_SKIP() << "only root can run this as another user";
  }

  std::string Entry() const { return "LOCAL_CLUSTER_TEST=" + mark_; }
  std::string Script(const std::string& when_up) const {
    return absl::StrCat(
        "touch /tmp/", mark_, " /dev/shm/", mark_, "\n",
        "echo \"${0##*/}|$(uname -n)|$$|$(ls -A /tmp | tr '\\n' ' ')|$(ls -A /dev/shm)|"
        "$(for n in uts pid mnt ipc net; do readlink /proc/self/ns/$n; done | tr '\\n' ' ')|"
        "$(ls /proc | grep -c '^[0-9]')|$*\" > ",
        folder_.string(), "/facts\n", when_up, "exec sleep 100000\n");
  }
  void WriteScript(const std::string& name, const std::string& text) {
    const fs::path path = programs_ / name;
    std::ofstream(path) << "#!/bin/sh\n" << text;
    chmod(path.c_str(), 0755);
  }
  LocalClusterOptions Options(int workers) const {
    return {.workers = workers, .binary_dir = programs_.string()};
  }

  // Runs `client` in a child process, as the user of this test.
  pid_t StartClient(const std::function<void()>& client) {
    std::cout.flush();
    const pid_t pid = fork();
    if (pid != 0) return pid;
    setenv("LOCAL_CLUSTER_TEST", mark_.c_str(), 1);
    setenv("TMPDIR", "/var/tmp/no/such/folder", 1);
    if (GetParam()) {
      EXPECT_EQ(setgroups(0, nullptr), 0);
      EXPECT_EQ(setgid(kOtherUser), 0);
      EXPECT_EQ(setuid(kOtherUser), 0);
      prctl(PR_SET_DUMPABLE, 1);  // as after a login: setuid() takes it away
    }
    client();
    std::cout.flush();
    _exit(HasFailure() ? 1 : 0);
  }
  void RunClient(const std::function<void()>& client) { ExpectSuccess(StartClient(client)); }
  static void ExpectSuccess(pid_t client) {
    int status = -1;
    ASSERT_EQ(waitpid(client, &status, 0), client);
    EXPECT_EQ(status, 0);
  }

  // Waits until `count` stand-ins have said what they see.
  std::vector<Facts> Await(size_t count) {
    std::vector<Facts> all;
    std::string text;
    while (all.size() < count) {
      pollfd ready = {facts_.get(), POLLIN, 0};
      if (poll(&ready, 1, kPatienceMs) != 1) {
        ADD_FAILURE() << "only " << all.size() << " of " << count << " spoke";
        return all;
      }
      char bytes[4096];
      text.append(bytes, read(facts_.get(), bytes, sizeof(bytes)));
      for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
        const std::vector<std::string> words = absl::StrSplit(text.substr(0, end), '|');
        if (words.size() != 8) {
          ADD_FAILURE() << text;
          return all;
        }
        all.push_back({words[0], words[1], words[2], words[3], words[4],
                       absl::StrSplit(words[5], ' ', absl::SkipEmpty()), words[6], words[7]});
      }
    }
    return all;
  }
  // In a client: what goes to stderr from now on.
  static UniqueFd CatchStderr() {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    return UniqueFd(ends[0]);
  }
  static std::string AwaitLine(int fd) {
    std::string line;
    char byte;
    for (pollfd ready = {fd, POLLIN, 0}; poll(&ready, 1, kPatienceMs) == 1; line += byte) {
      if (read(fd, &byte, 1) != 1 || byte == '\n') return line;
    }
    ADD_FAILURE() << "no line but " << line;
    return line;
  }

  // The cluster's process 1, then the frontend and the workers in the order of their start. Not
  // before `speakers` of them have spoken.
  std::vector<pid_t> ClusterProcesses(pid_t client, size_t speakers) {
    Await(speakers);
    std::vector<pid_t> pids = ChildrenOf(client);
    EXPECT_EQ(pids.size(), 1u);
    if (pids.empty()) return pids;
    for (const pid_t pid : ChildrenOf(pids[0])) pids.push_back(pid);
    return pids;
  }

  fs::path folder_, programs_;
  std::string mark_;
  UniqueFd facts_;
  std::string mounts_;
};

INSTANTIATE_TEST_SUITE_P(As, LocalClusterTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "OtherUser" : "Self"; });

TEST_P(LocalClusterTest, EachHostHasItsOwnNamespaces) {
  RunClient([this] {
    const auto cluster = LocalCluster::Start(Options(3));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    const std::vector<Facts> all = Await(4);
    std::vector<std::string> hosts;
    std::map<std::string, int> uses;
    for (const Facts& facts : all) {
      hosts.push_back(facts.host);
      EXPECT_EQ(facts.pid, "1") << facts.host;
      EXPECT_EQ(facts.shm, mark_) << facts.host;  // only its own file
      const bool frontend = facts.host == "frontend";
      EXPECT_EQ(facts.program, frontend ? "mpilaunchd" : "mpilaunch-agent");
      EXPECT_EQ(facts.tmp, absl::StrCat(mark_, " mpilaunch-bin ",
                                        frontend ? "mpilaunch-frontend " : "", "mpilaunch-join "))
          << facts.host;
      EXPECT_LT(std::stoi(facts.processes), 10) << facts.host;
      ASSERT_EQ(facts.namespaces.size(), 5u);
      for (const std::string& name : facts.namespaces) ++uses[name];
      for (const char* kind : {"uts", "pid", "mnt", "ipc"}) {
        EXPECT_THAT(facts.namespaces,
                    Not(Contains(fs::read_symlink(absl::StrCat("/proc/self/ns/", kind)))));
      }
      EXPECT_THAT(facts.namespaces, Contains(fs::read_symlink("/proc/self/ns/net")));
    }
    EXPECT_THAT(hosts, UnorderedElementsAre("frontend", "w1", "w2", "w3"));
    for (const auto& [name, count] : uses) {
      EXPECT_EQ(count, absl::StartsWith(name, "net:") ? 4 : 1) << name;
    }
  });
}

TEST_P(LocalClusterTest, FlagsAreThoseOfProduction) {
  RunClient([this] {
    LocalClusterOptions options = Options(1);
    options.slots_per_worker = 3;
    const auto cluster = LocalCluster::Start(options);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    for (const Facts& facts : Await(2)) {
      EXPECT_THAT(facts.arguments, HasSubstr("--listen 127.0.0.1"));
      EXPECT_THAT(facts.arguments, HasSubstr("--join-bundle /tmp/mpilaunch-join/worker.json"));
      if (facts.program == "mpilaunchd") {
        EXPECT_THAT(facts.arguments, HasSubstr("--control-port 0 --enrol-port 0"));
      } else {
        EXPECT_THAT(facts.arguments, HasSubstr("--frontend 127.0.0.1"));
        EXPECT_THAT(facts.arguments, HasSubstr("--slots 3"));
      }
    }
  });
}

// The client connects through the path while nobody else sees the folder; the frontend sees its
// uid.
TEST_P(LocalClusterTest, SocketFolderIsReached) {
  WriteScript("mpilaunchd", Script("echo here > /tmp/mpilaunch-frontend/mpilaunchd.sock\n"
                                   "echo >&3\n"));
  RunClient([this] {
    const auto cluster = LocalCluster::Start(Options(1));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    EXPECT_LT((*cluster)->socket_path().size(), sizeof(sockaddr_un::sun_path));
    EXPECT_EQ(ReadFile((*cluster)->socket_path()), "here\n");
    EXPECT_FALSE(fs::exists("/tmp/mpilaunch-frontend"));
    Await(2);
  });
}

TEST_P(LocalClusterTest, AgentsStartOnceTheJoinBundleIsThere) {
  WriteScript("mpilaunchd", Script("echo > /tmp/mpilaunch-join/worker.json\necho >&3\n"));
  WriteScript("mpilaunch-agent",
              absl::StrCat("test -e /tmp/mpilaunch-join/worker.json || exit 9\n", Script("")));
  RunClient([this] {
    const auto cluster = LocalCluster::Start(Options(8));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    EXPECT_EQ(Await(9).size(), 9u);
  });
}

// A clone may lie in a folder that the cluster covers; its path may hold blanks.
TEST_P(LocalClusterTest, ProgramsBelowCoveredFolders) {
  for (const char* covered : {"/tmp", "/dev/shm"}) {
    const fs::path clone = fs::path(covered) / ("clone of " + mark_);
    fs::copy(programs_, clone, fs::copy_options::recursive);
    RunClient([&] {
      LocalClusterOptions options = Options(2);
      options.binary_dir = clone;
      const auto cluster = LocalCluster::Start(options);
      ASSERT_TRUE(cluster.ok()) << cluster.status();
      for (const Facts& facts : Await(3)) EXPECT_THAT(facts.tmp, Not(HasSubstr("clone")));
    });
    fs::remove_all(clone);
  }
}

TEST_P(LocalClusterTest, NothingIsLeftAfterTheEnd) {
  RunClient([this] {
    auto cluster = LocalCluster::Start(Options(2));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    const std::vector<UniqueFd> processes = Watch(ClusterProcesses(getpid(), 3));
    ASSERT_EQ(processes.size(), 4u);
    cluster->reset();
    for (const UniqueFd& process : processes) {  // now, not soon
      pollfd ended = {process.get(), POLLIN, 0};
      EXPECT_EQ(poll(&ended, 1, 0), 1);
    }
    EXPECT_THAT(FindDaemons(Entry()), IsEmpty());
  });
}

TEST_P(LocalClusterTest, NothingIsLeftWhenTheClientIsKilled) {
  const pid_t client = StartClient([this] {
    const auto cluster = LocalCluster::Start(Options(2));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    pause();
  });
  const std::vector<UniqueFd> processes = Watch(ClusterProcesses(client, 3));
  ASSERT_EQ(processes.size(), 4u);
  ASSERT_EQ(kill(client, SIGKILL), 0);
  ExpectAllEnd(processes);
  EXPECT_EQ(waitpid(client, nullptr, 0), client);
}

TEST_P(LocalClusterTest, NothingIsLeftWhenTheClientIsKilledDuringTheStart) {
  WriteScript("mpilaunchd", Script(""));  // is never ready
  const pid_t client = StartClient([this] { (void)LocalCluster::Start(Options(2)); });
  const std::vector<UniqueFd> processes = Watch(ClusterProcesses(client, 1));
  ASSERT_EQ(kill(client, SIGKILL), 0);
  ExpectAllEnd(processes);
  EXPECT_EQ(waitpid(client, nullptr, 0), client);
}

TEST_P(LocalClusterTest, FrontendKilledEndsTheCluster) {
  const pid_t client = StartClient([this] {
    const auto cluster = LocalCluster::Start(Options(2));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    pause();
  });
  const std::vector<pid_t> pids = ClusterProcesses(client, 3);
  ASSERT_EQ(pids.size(), 4u);
  const std::vector<UniqueFd> processes = Watch(pids);
  ASSERT_EQ(kill(pids[1], SIGKILL), 0);
  ExpectAllEnd(processes);
  ASSERT_EQ(kill(client, SIGKILL), 0);
  EXPECT_EQ(waitpid(client, nullptr, 0), client);
}

TEST_P(LocalClusterTest, WorkerKilledIsNamedAndLeavesTheOthers) {
  RunClient([this] {
    const UniqueFd words = CatchStderr();
    const auto cluster = LocalCluster::Start(Options(2));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    const std::vector<pid_t> pids = ClusterProcesses(getpid(), 3);
    ASSERT_EQ(pids.size(), 4u);
    ASSERT_EQ(kill(pids[2], SIGKILL), 0);
    EXPECT_EQ(AwaitLine(words.get()), "mpilaunch: w1 ended: killed by signal 9");
    EXPECT_EQ(kill(pids[1], 0), 0);
    EXPECT_EQ(kill(pids[3], 0), 0);
  });
}

TEST_P(LocalClusterTest, WhatDaemonsSayIsShownWithTheirHost) {
  WriteScript("mpilaunchd", Script("echo early >&2\necho >&3\n"));
  RunClient([this] {
    const UniqueFd words = CatchStderr();
    const auto cluster = LocalCluster::Start(Options(1));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    EXPECT_EQ(AwaitLine(words.get()), "frontend: early");
    Await(2);
  });
}

TEST_P(LocalClusterTest, FrontendThatFailsIsNamedWithItsLastWords) {
  WriteScript("mpilaunchd", "echo early; echo 'port 7431 is taken' >&2; exit 3\n");
  RunClient([this] {
    const absl::Status status = LocalCluster::Start(Options(1)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("frontend ended: exit code 3"), HasSubstr("port 7431 is taken")));
  });
}

TEST_P(LocalClusterTest, MuchOutputOfAFailureIsBounded) {
  WriteScript("mpilaunchd", "seq 1 200000 >&2; echo last words >&2; exit 3\n");
  RunClient([this] {
    const absl::Status status = LocalCluster::Start(Options(1)).status();
    EXPECT_LT(status.message().size(), 5000u);
    EXPECT_THAT(std::string(status.message()), HasSubstr("last words"));
  });
}

TEST_P(LocalClusterTest, AgentThatCanNotBeRunIsNamed) {
  const fs::path agent = programs_ / "mpilaunch-agent";
  std::ofstream(agent) << "#!/no/such/interpreter\n";
  RunClient([this] {
    const absl::Status status = LocalCluster::Start(Options(2)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("--local: w"), HasSubstr("mpilaunch-agent: No such file")));
  });
}

TEST_P(LocalClusterTest, ProgramMissingIsNamed) {
  fs::remove(programs_ / "mpilaunch-agent");
  RunClient([this] {
    const absl::Status status = LocalCluster::Start(Options(1)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(std::string(status.message()), HasSubstr((programs_ / "mpilaunch-agent").string()));
  });
}

TEST_P(LocalClusterTest, UserNamespacesSwitchedOffSaysHowToAllowThem) {
  RunClient([this] {
    // A system of our own, where that setting may be changed, and then no capability to go without.
    ASSERT_EQ(unshare(CLONE_NEWUSER), 0) << std::strerror(errno);
    std::ofstream("/proc/sys/user/max_user_namespaces") << "0\n" << std::flush;
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2] = {};
    ASSERT_EQ(syscall(SYS_capset, &header, none), 0) << std::strerror(errno);
    const absl::Status status = LocalCluster::Start(Options(1)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("run it as root"), HasSubstr("sysctl user.max_user_namespaces=")));
  });
}

TEST_P(LocalClusterTest, NumberOfWorkersIsChecked) {
  for (const int workers : {0, -1, 1025}) {
    const absl::Status status = LocalCluster::Start(Options(workers)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(absl::StrCat("--local=", workers)), HasSubstr("1 to 1024")));
  }
}

TEST_P(LocalClusterTest, HundredAndThirtyWorkers) {
  RunClient([this] {
    const auto cluster = LocalCluster::Start(Options(130));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    EXPECT_EQ(Await(131).size(), 131u);
  });
}

TEST_P(LocalClusterTest, RealProgramsStartAndAccept) {
  // A build folder may be closed to the other user.
  for (const char* program : {"mpilaunchd", "mpilaunch-agent", "mpilaunch-rsh"}) {
    fs::copy(fs::path(MPILAUNCH_BIN_DIR) / program, programs_ / program,
             fs::copy_options::overwrite_existing);
    chmod((programs_ / program).c_str(), 0755);
  }
  RunClient([this] {
    const auto cluster = LocalCluster::Start(Options(2));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    const UniqueFd connection(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, (*cluster)->socket_path().c_str());
    EXPECT_EQ(connect(connection.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0)
        << std::strerror(errno);
  });
}

TEST(LocalDaemonEnvironment, DropsWhatAFreshContainerDoesNotHave) {
  EXPECT_THAT(LocalDaemonEnvironment({"PATH=/bin", "MPILAUNCH_NAME=x", "MPILAUNCH_SLOTS=4",
                                      "OMPI_COMM_WORLD_RANK=1", "PMIX_RANK=0", "SLURM_JOB_ID=1",
                                      "TMPDIR=/no", "TMP=/no", "TMPFOO=1", "odd"}),
              ElementsAre("TMPDIR=/tmp", "PATH=/bin", "MPILAUNCH_SLOTS=4", "TMPFOO=1", "odd"));
}

}  // namespace
}  // namespace mpilaunch
