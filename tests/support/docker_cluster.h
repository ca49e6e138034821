// A cluster of containers from mpilaunch's images, on a network of its own, through the docker
// command line.
#ifndef MPILAUNCH_TESTS_SUPPORT_DOCKER_CLUSTER_H_
#define MPILAUNCH_TESTS_SUPPORT_DOCKER_CLUSTER_H_

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "support/command.h"

namespace mpilaunch::testing {

using Words = std::vector<std::string>;

// Series of Open MPI that there are images for.
inline constexpr char kOpenMpi4[] = "4.1";
inline constexpr char kOpenMpi5[] = "5.0";

// Values for a test that is to pass with both, and their part of its name.
inline auto BothSeries() { return ::testing::Values(kOpenMpi4, kOpenMpi5); }
std::string SeriesName(const ::testing::TestParamInfo<std::string>& info);

// mpilaunch-frontend:4.1 and the like. MPILAUNCH_IMAGE_SUFFIX goes behind the tag, so that tests
// can run with other images than those that `./dev images` made.
std::string ImageTag(const std::string& series);
std::string FrontendImage(const std::string& series);
std::string WorkerImage(const std::string& series);

// `docker WORDS` to its end, which must be a good one. Returns stdout without the last newline.
std::string Docker(const Words& words, const Command::Options& options = {});

// Until `done`, asked again and again; false: it was not within `patience`.
bool Await(const std::function<bool()>& done, absl::Duration patience = absl::Seconds(30));

// How many ranks of examples/hello.c printed their line on which host. A line that is not of this
// form counts under its own text, so that comparing the map finds it.
std::map<std::string, int> RanksPerHost(const std::string& output,
                                        const std::string& greeting = "Hello world!");

// Names for what a test makes in Docker, unique among all processes. Containers, networks, volumes
// and images with the label, or of the compose project, are removed with this object, and also when
// this process is killed.
class DockerScope {
 public:
  DockerScope();
  ~DockerScope();

  std::string Name(const std::string& what) const { return prefix_ + "-" + what; }
  const std::string& project() const { return prefix_; }
  std::string Label() const { return "mpilaunch-test=" + prefix_; }
  // `docker build` of a Dockerfile without a context. Returns the image's name.
  std::string Build(const std::string& what, const std::string& dockerfile) const;

 private:
  const std::string prefix_;
  std::unique_ptr<Command> sweeper_;
};

struct WorkerOptions {
  Words docker{};         // more options of docker run
  std::string image{};    // default: the worker image of the frontend's series
  std::string network{};  // default: the cluster's
};

// A frontend named mpife and workers. A worker's name is its container's host name.
class DockerCluster {
 public:
  // With a frontend of this series. `options` are docker run's, for the frontend and all workers.
  explicit DockerCluster(const std::string& series, Words options = {});

  // Starts a container, without waiting for anything.
  void StartWorker(const std::string& host, const WorkerOptions& options = {});
  // mpiwn1 to mpiwnN with four slots each, registered.
  void StartWorkers(int count);

  const DockerScope& scope() const { return scope_; }
  std::string network() const { return scope_.Name("net"); }
  // The container's name, for `docker stop` and so on.
  std::string Container(const std::string& host) const { return scope_.Name(host); }

  // `docker exec HOST WORDS`
  CommandResult Exec(const std::string& host, const Words& words,
                     const Command::Options& options = {});
  // In the frontend's /work.
  CommandResult Mpilaunch(const Words& words);
  std::unique_ptr<Command> StartMpilaunch(const Words& words);
  // mpicc of a file of this source tree, in the frontend, to /work/OUTPUT.
  void Compile(const std::string& source, const std::string& output);
  void WriteFile(const std::string& path, const std::string& contents);  // in the frontend

  // Names of the workers that are READY, in order.
  Words Ready();
  // Until exactly these are; the test fails when that does not come.
  void AwaitReady(const Words& workers, absl::Duration patience = absl::Seconds(30));
  // What `mpilaunch workers --json` says about one; null when it is not there.
  nlohmann::json Worker(const std::string& name);

 private:
  Words RunWords(const std::string& host, const std::string& network, const Words& more,
                 const std::string& image) const;
  Words WorkerWords(const std::string& host, const WorkerOptions& options) const;

  DockerScope scope_;
  const std::string series_;
  const Words options_;
};

}  // namespace mpilaunch::testing

#endif  // MPILAUNCH_TESTS_SUPPORT_DOCKER_CLUSTER_H_
