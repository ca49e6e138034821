#include "support/docker_cluster.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <regex>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "support/temporary_folder.h"

namespace mpilaunch::testing {
namespace {

constexpr char kFrontendHost[] = "mpife";
constexpr absl::Duration kBuildPatience = absl::Minutes(5);  // packages are fetched
constexpr absl::Duration kAskAgain = absl::Milliseconds(50);

// Waits for the end of its input: that of the test, in whichever way it ends.
constexpr char kSweep[] = R"(
cat
exec >/dev/null
for label; do
  docker ps --all --quiet --filter "label=$label" | xargs -r docker rm --force --volumes
  docker network ls --quiet --filter "label=$label" | xargs -r docker network rm
  docker volume ls --quiet --filter "label=$label" | xargs -r docker volume rm
  docker images --quiet --filter "label=$label" | xargs -r docker rmi --force
done
)";

std::string UniquePrefix() {
  static std::atomic<int> count = 0;
  return absl::StrCat("mpilaunch-test-", getpid(), "-", ++count);
}

Words Concatenate(std::initializer_list<Words> parts) {
  Words all;
  for (const Words& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace

std::string SeriesName(const ::testing::TestParamInfo<std::string>& info) {
  return absl::StrReplaceAll(info.param, {{".", "_"}});
}

std::string ImageTag(const std::string& series) {
  const char* suffix = std::getenv("MPILAUNCH_IMAGE_SUFFIX");
  return absl::StrCat(series, suffix == nullptr ? "" : suffix);
}

std::string FrontendImage(const std::string& series) {
  return absl::StrCat("mpilaunch-frontend:", ImageTag(series));
}

std::string WorkerImage(const std::string& series) {
  return absl::StrCat("mpilaunch-worker:", ImageTag(series));
}

std::string Docker(const Words& words, const Command::Options& options) {
  const CommandResult result = RunCommand(Concatenate({{"docker"}, words}), options);
  EXPECT_EQ(result.code, 0) << "docker " << absl::StrJoin(words, " ") << "\n" << result.err;
  return std::string(absl::StripTrailingAsciiWhitespace(result.out));
}

bool Await(const std::function<bool()>& done, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (!done()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(kAskAgain);
  }
  return true;
}

std::map<std::string, int> RanksPerHost(const std::string& output, const std::string& greeting) {
  const std::regex line(greeting + R"( I am process number: \d+ on host (\S+))");
  std::map<std::string, int> ranks;
  for (const std::string& text : Words(absl::StrSplit(output, '\n', absl::SkipEmpty()))) {
    std::smatch match;
    ++ranks[std::regex_match(text, match, line) ? match[1].str() : text];
  }
  return ranks;
}

DockerScope::DockerScope() : prefix_(UniquePrefix()) {
  Command::Options options;
  options.keep_stdin_open = true;
  options.patience = absl::Hours(1);
  const std::string of_compose = "com.docker.compose.project=" + prefix_;
  sweeper_ = std::make_unique<Command>(
      Words{"setsid", "sh", "-c", kSweep, "sweep", Label(), of_compose}, options);
}

DockerScope::~DockerScope() {
  sweeper_->CloseInput();
  const CommandResult result = sweeper_->Finish();
  EXPECT_EQ(result.err, "") << "something labelled " << Label() << " may be left";
}

std::string DockerScope::Build(const std::string& what, const std::string& dockerfile) const {
  Command::Options options;
  options.input = dockerfile;
  options.patience = kBuildPatience;
  options.environment = {"DOCKER_BUILDKIT=0"};
  Docker({"build", "--network", "host", "--label", Label(), "--tag", Name(what), "-"}, options);
  return Name(what);
}

DockerCluster::DockerCluster(const std::string& series, Words options)
    : series_(series), options_(std::move(options)) {
  Docker({"network", "create", "--label", scope_.Label(), network()});
  Docker({"volume", "create", "--label", scope_.Label(), scope_.Name("join")});
  Docker(RunWords(kFrontendHost, network(), {"--volume", scope_.Name("join") + ":/run/join"},
                  FrontendImage(series_)));
  if (!Await([&] { return Mpilaunch({"workers"}).code == 0; })) {
    ADD_FAILURE() << "the frontend does not come up: "
                  << RunCommand({"docker", "logs", Container(kFrontendHost)}).err;
  }
}

Words DockerCluster::RunWords(const std::string& host, const std::string& network,
                              const Words& more, const std::string& image) const {
  return Concatenate({{"run", "--detach", "--label", scope_.Label(), "--name", Container(host)},
                      {"--hostname", host, "--network", network, "--network-alias", host},
                      options_,
                      more,
                      {image}});
}

Words DockerCluster::WorkerWords(const std::string& host, const WorkerOptions& options) const {
  const Words joined = {"--volume", scope_.Name("join") + ":/run/join:ro", "--env",
                        absl::StrCat("MPILAUNCH_FRONTEND=", kFrontendHost)};
  return RunWords(host, options.network.empty() ? network() : options.network,
                  Concatenate({joined, options.docker}),
                  options.image.empty() ? WorkerImage(series_) : options.image);
}

void DockerCluster::StartWorker(const std::string& host, const WorkerOptions& options) {
  Docker(WorkerWords(host, options));
}

void DockerCluster::StartWorkers(int count) {
  Words names;
  std::vector<std::unique_ptr<Command>> starting;
  for (int i = 1; i <= count; ++i) {
    names.push_back(absl::StrCat("mpiwn", i));
    const Words words = WorkerWords(names.back(), {.docker = {"--env", "MPILAUNCH_SLOTS=4"}});
    starting.push_back(std::make_unique<Command>(Concatenate({{"docker"}, words})));
  }
  for (const auto& command : starting) {
    const CommandResult result = command->Finish();
    EXPECT_EQ(result.code, 0) << result.err;
  }
  AwaitReady(names);
}

CommandResult DockerCluster::Exec(const std::string& host, const Words& words,
                                  const Command::Options& options) {
  return RunCommand(Concatenate({{"docker", "exec", "--interactive", Container(host)}, words}),
                    options);
}

std::unique_ptr<Command> DockerCluster::StartMpilaunch(const Words& words) {
  return std::make_unique<Command>(
      Concatenate({{"docker", "exec", Container(kFrontendHost), "mpilaunch"}, words}));
}

CommandResult DockerCluster::Mpilaunch(const Words& words) {
  return StartMpilaunch(words)->Finish();
}

void DockerCluster::WriteFile(const std::string& path, const std::string& contents) {
  Command::Options options;
  options.input = contents;
  const CommandResult result =
      Exec(kFrontendHost, {"sh", "-c", "cat >\"$1\"", "write", path}, options);
  EXPECT_EQ(result.code, 0) << result.err;
}

void DockerCluster::Compile(const std::string& source, const std::string& output) {
  WriteFile(output + ".c", ReadWhole(absl::StrCat(MPILAUNCH_SOURCE_DIR, "/", source)));
  const CommandResult result = Exec(kFrontendHost, {"mpicc", "-O1", "-o", output, output + ".c"});
  EXPECT_EQ(result.code, 0) << result.err;
}

namespace {

nlohmann::json ParseWorkers(const CommandResult& listed) {
  const nlohmann::json document = nlohmann::json::parse(listed.out, nullptr, false);
  return document.is_discarded() ? nlohmann::json::array() : document.at("workers");
}

}  // namespace

Words DockerCluster::Ready() {
  Words names;
  for (const nlohmann::json& worker : ParseWorkers(Mpilaunch({"workers", "--json"}))) {
    if (worker.at("state") == "READY") names.push_back(worker.at("name"));
  }
  std::sort(names.begin(), names.end());
  return names;
}

void DockerCluster::AwaitReady(const Words& workers, absl::Duration patience) {
  if (Await([&] { return Ready() == workers; }, patience)) return;
  ADD_FAILURE() << "not these workers within " << patience << ": " << absl::StrJoin(workers, ", ")
                << ", but: " << Mpilaunch({"workers"}).out;
}

nlohmann::json DockerCluster::Worker(const std::string& name) {
  for (const nlohmann::json& worker : ParseWorkers(Mpilaunch({"workers", "--json"}))) {
    if (worker.at("name") == name) return worker;
  }
  return nullptr;
}

}  // namespace mpilaunch::testing
