#include "support/mpi_cluster.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace mpilaunch::testing {
namespace {

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string HostOf(const std::string& pid) {
  return RunCommand({"nsenter", "--target", pid, "--uts", "hostname"}).out;
}

}  // namespace

void CompileMpi(const std::string& source, const std::string& output,
                const std::vector<std::string>& flags) {
  std::vector<std::string> argv = {"mpicc", "-O1", "-o", output,
                                   absl::StrCat(MPILAUNCH_SOURCE_DIR, "/", source)};
  argv.insert(argv.end(), flags.begin(), flags.end());
  const CommandResult result = RunCommand(argv);
  ASSERT_EQ(result.code, 0) << result.err;
}

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

MpiCluster::MpiCluster(int workers, uint32_t slots_per_worker) {
  CompileMpi("examples/hello.c", folder() + "/hello");
  CompileMpi("tests/programs/probe.c", folder() + "/probe");
  LocalClusterOptions options;
  options.workers = workers;
  options.slots_per_worker = slots_per_worker;
  options.binary_dir = MPILAUNCH_BIN_DIR;
  auto cluster = LocalCluster::Start(options);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  if (!cluster.ok()) return;
  cluster_ = *std::move(cluster);
  // The path goes through a descriptor of this process: name the process for our children.
  socket_ =
      absl::StrCat("/proc/", getpid(), absl::StripPrefix(cluster_->socket_path(), "/proc/self"));
  const CommandResult ready =
      Mpilaunch({"-n", absl::StrCat(slots_per_worker * workers), "--wait", "60", "/bin/true"});
  EXPECT_EQ(ready.code, 0) << ready.err;
}

Command::Options MpiCluster::ForThisCluster(Command::Options options) const {
  options.environment.push_back("MPILAUNCH_SOCKET=" + socket_);
  if (options.working_directory.empty()) options.working_directory = folder();
  return options;
}

std::unique_ptr<Command> MpiCluster::Start(const std::vector<std::string>& arguments,
                                           Command::Options options) const {
  std::vector<std::string> argv = {absl::StrCat(MPILAUNCH_BIN_DIR, "/mpilaunch")};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return std::make_unique<Command>(argv, ForThisCluster(std::move(options)));
}

CommandResult MpiCluster::Shell(const std::string& text) const {
  return RunCommand({"sh", "-c", absl::StrCat("PATH='", MPILAUNCH_BIN_DIR, "':$PATH; ", text)},
                    ForThisCluster({}));
}

CommandResult MpiCluster::Mpilaunch(const std::vector<std::string>& arguments,
                                    Command::Options options) const {
  return Start(arguments, std::move(options))->Finish();
}

std::vector<pid_t> MpiCluster::FindProcesses(const std::string& program) {
  std::map<pid_t, pid_t> parents;
  std::vector<pid_t> candidates;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    const std::string stat = ReadText(entry.path() / "stat");  // PID (NAME) STATE PARENT ...
    const size_t open = stat.find('('), close = stat.rfind(')');
    if (close == std::string::npos) continue;
    const std::vector<std::string> rest = absl::StrSplit(stat.substr(close + 2), ' ');
    if (rest.size() > 1) static_cast<void>(absl::SimpleAtoi(rest[1], &parents[pid]));
    if (stat.substr(open + 1, close - open - 1) == program) candidates.push_back(pid);
  }
  // Other people's processes of the same name are none of this cluster's.
  auto is_ours = [&](pid_t pid) {
    while (pid > 1 && pid != getpid()) pid = parents.count(pid) != 0 ? parents[pid] : 0;
    return pid == getpid();
  };
  std::vector<pid_t> found;
  std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(found), is_ours);
  return found;
}

pid_t MpiCluster::FindProcess(const std::string& program, const std::string& host) {
  for (pid_t pid : FindProcesses(program)) {
    if (HostOf(absl::StrCat(pid)) == host + "\n") return pid;
  }
  return -1;
}

}  // namespace mpilaunch::testing
