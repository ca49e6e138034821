#include "agent/loopback_preload.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/unique_fd.h"
#include "support/command.h"
#include "support/temporary_folder.h"

namespace mpilaunch {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

// A TCP listener on 127.0.0.1 whose backlog takes the connections of a test.
class Listener {
 public:
  Listener() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = Address(0);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(listen(fd_.get(), 8), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  uint16_t port() const { return port_; }

  static sockaddr_in Address(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

using ConnectFunction = int (*)(int, const sockaddr*, socklen_t);

// Whether a connection that `connect_function` makes to `port` has Nagle's algorithm off.
bool HasNoDelay(ConnectFunction connect_function, uint16_t port, int flags = 0) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  const sockaddr_in address = Listener::Address(port);
  const int result =
      connect_function(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  EXPECT_TRUE(result == 0 || errno == EINPROGRESS);
  int no_delay = -1;
  socklen_t length = sizeof(no_delay);
  EXPECT_EQ(getsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &no_delay, &length), 0);
  return no_delay != 0;
}

std::string ServerUri(uint16_t port) {
  return absl::StrCat("1599406080.1;tcp4://127.0.0.1:", port);
}

// The library's own connect(), not preloaded.
class LoadedLibraryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const absl::StatusOr<std::string> path = InstallLoopbackPreload(folder_.path());
    ASSERT_TRUE(path.ok()) << path.status();
    path_ = *path;
    library_ = dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << dlerror();
    connect_ = reinterpret_cast<ConnectFunction>(dlsym(library_, "connect"));
    ASSERT_NE(connect_, nullptr);
    ASSERT_NE(connect_, &connect);
  }
  void TearDown() override {
    unsetenv("PMIX_SERVER_URI41");
    if (library_ != nullptr) dlclose(library_);
  }

  TemporaryFolder folder_;
  std::string path_;
  void* library_ = nullptr;
  ConnectFunction connect_ = nullptr;
  Listener pmix_server_;
  Listener other_;
};

TEST_F(LoadedLibraryTest, OnlyTheConnectionToThePmixServerIsChanged) {
  setenv("PMIX_SERVER_URI41", ServerUri(pmix_server_.port()).c_str(), 1);
  EXPECT_TRUE(HasNoDelay(connect_, pmix_server_.port()));
  EXPECT_FALSE(HasNoDelay(connect_, other_.port()));
  EXPECT_FALSE(HasNoDelay(&connect, pmix_server_.port()))
      << "the test cannot fail: it is on without us";
}

TEST_F(LoadedLibraryTest, NonBlockingConnectionIsChangedAndKeepsItsResult) {
  setenv("PMIX_SERVER_URI41", ServerUri(pmix_server_.port()).c_str(), 1);
  EXPECT_TRUE(HasNoDelay(connect_, pmix_server_.port(), SOCK_NONBLOCK));
}

TEST_F(LoadedLibraryTest, WithoutPmixNothingIsChanged) {
  EXPECT_FALSE(HasNoDelay(connect_, pmix_server_.port()));
}

TEST_F(LoadedLibraryTest, OddUriChangesNothing) {
  for (const char* uri : {"", ":", "1.0;tcp4://127.0.0.1:", "no port", "99999999999999999999999"}) {
    setenv("PMIX_SERVER_URI41", uri, 1);
    EXPECT_FALSE(HasNoDelay(connect_, pmix_server_.port())) << uri;
  }
}

TEST_F(LoadedLibraryTest, ErrorOfAFailedConnectIsKept) {
  uint16_t closed_port;
  {
    Listener closed;
    closed_port = closed.port();
  }
  setenv("PMIX_SERVER_URI41", ServerUri(closed_port).c_str(), 1);
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Listener::Address(closed_port);
  EXPECT_EQ(connect_(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
  EXPECT_EQ(connect_(-1, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_F(LoadedLibraryTest, FileIsOurs0500AndNothingElseIsLeft) {
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0500u);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
    names.push_back(entry.path().filename());
  EXPECT_THAT(names, ElementsAre("loopback_nodelay.so"));
}

TEST_F(LoadedLibraryTest, InstalledAgainKeepsTheLoadedOne) {
  folder_.Write("loopback_nodelay.so.new", "half way");
  ASSERT_TRUE(InstallLoopbackPreload(folder_.path()).ok());
  EXPECT_FALSE(HasNoDelay(connect_, other_.port()));
}

v1::WorkerFacts GlibcFacts() {
  v1::WorkerFacts facts;
  facts.set_glibc_version("2.36");
  return facts;
}

// In a sanitizer build this program is one of those that refuse a preloaded library.
TEST(PreloadedTest, ThisVeryProgramRunsPreloadedAndIsCured) {
  TemporaryFolder folder;
  const absl::StatusOr<std::vector<std::string>> entries =
      JobEnvironment(GlibcFacts(), true, folder.path());
  ASSERT_TRUE(entries.ok()) << entries.status();
  testing::Command::Options options;
  options.environment = *entries;
  const testing::CommandResult result =
      testing::RunCommand({"/proc/self/exe", "--gtest_also_run_disabled_tests",
                           "--gtest_filter=PreloadedTest.DISABLED_Child"},
                          options);
  EXPECT_EQ(result.code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, ::testing::HasSubstr("[  PASSED  ] 1 test"));
}

TEST(PreloadedTest, DISABLED_Child) {
  Listener pmix_server;
  Listener other;
  setenv("PMIX_SERVER_URI2", ServerUri(pmix_server.port()).c_str(), 1);
  EXPECT_TRUE(HasNoDelay(&connect, pmix_server.port()));
  EXPECT_FALSE(HasNoDelay(&connect, other.port()));
}

TEST(PreloadedTest, ShellPrintsNothingOfItsOwn) {
  TemporaryFolder folder;
  const absl::StatusOr<std::vector<std::string>> entries =
      JobEnvironment(GlibcFacts(), true, folder.path());
  ASSERT_TRUE(entries.ok()) << entries.status();
  testing::Command::Options options;
  options.environment = *entries;
  const testing::CommandResult result = testing::RunCommand({"/bin/sh", "-c", "exit 3"}, options);
  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(result.out + result.err, "");
}

TEST(InstallLoopbackPreloadTest, FolderThatCannotStandInLdPreloadIsRefused) {
  TemporaryFolder folder;
  for (const std::string& bad :
       {folder.path() + "/a b", folder.path() + "/a:b", std::string("relative")}) {
    EXPECT_EQ(InstallLoopbackPreload(bad).status().code(), absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST(InstallLoopbackPreloadTest, MissingParentIsNamed) {
  const absl::Status status = InstallLoopbackPreload("/nonexistent/lib").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("/nonexistent/lib"));
}

TEST(JobEnvironmentTest, FolderThatCannotHoldTheLibraryCostsOnlyTheCure) {
  const absl::StatusOr<std::vector<std::string>> entries =
      JobEnvironment(GlibcFacts(), true, "/nonexistent/lib");
  ASSERT_TRUE(entries.ok());
  EXPECT_THAT(*entries, Not(Contains(StartsWith("LD_PRELOAD="))));
}

TEST(JobEnvironmentTest, SwitchedOffOrAnotherLibcInstallsNothing) {
  TemporaryFolder folder;
  ASSERT_TRUE(JobEnvironment(GlibcFacts(), false, folder.path()).ok());
  ASSERT_TRUE(JobEnvironment(v1::WorkerFacts(), true, folder.path()).ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(MpiEnvironmentTest, LeanWorker) {
  EXPECT_THAT(MpiEnvironment(GlibcFacts(), "/job/lib/l.so", {"PATH=/bin"}),
              ElementsAre("HWLOC_COMPONENTS=-pci,-opencl,-gl,-linuxio",
                          StartsWith("HWLOC_PLUGINS_BLACKLIST=hwloc_pci.so,"),
                          "LD_PRELOAD=/job/lib/l.so", "ASAN_OPTIONS=verify_asan_link_order=0"));
}

TEST(MpiEnvironmentTest, PciDevicesThatMatterKeepTheirDiscovery) {
  v1::WorkerFacts facts = GlibcFacts();
  facts.set_pci_locality(true);
  EXPECT_THAT(MpiEnvironment(facts, "", {}), IsEmpty());
}

TEST(MpiEnvironmentTest, WhatTheContainerSetIsKeptOrExtended) {
  EXPECT_THAT(MpiEnvironment(GlibcFacts(), "/l.so",
                             {"HWLOC_COMPONENTS=x", "HWLOC_PLUGINS_BLACKLIST=y", "LD_PRELOAD=/a.so",
                              "ASAN_OPTIONS=detect_leaks=0"}),
              ElementsAre("LD_PRELOAD=/a.so:/l.so",
                          "ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0"));
}

}  // namespace
}  // namespace mpilaunch
