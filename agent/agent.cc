#include "agent/agent.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <csignal>
#include <filesystem>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "agent/backoff.h"
#include "agent/host_facts.h"
#include "agent/loopback_preload.h"
#include "agent/process_service.h"
#include "agent/session.h"
#include "agent/staging.h"
#include "common/blob_service.h"
#include "common/blob_store.h"
#include "common/enrol_client.h"
#include "common/join_bundle.h"
#include "common/keepalive.h"
#include "common/network.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kFirstWait = absl::Milliseconds(100);
constexpr absl::Duration kLongestWait = absl::Seconds(3);
constexpr absl::Duration kEnrolTimeout = absl::Seconds(5);
// A frontend that is gone for longer has lost its jobs: what they left here is ended.
constexpr absl::Duration kFrontendGrace = absl::Seconds(10);
constexpr absl::Duration kJobsGrace = absl::Seconds(5);  // of 10 s that `docker stop` gives
constexpr absl::Duration kGoodbyeTimeout = absl::Seconds(1);
constexpr absl::Duration kServerGrace = absl::Seconds(1);

// Our listener and the identity that it was started with.
struct Served {
  Enrolled enrolled;
  uint16_t port = 0;
  std::unique_ptr<grpc::Server> server;
};

std::function<double()> Uniform() {
  auto engine = std::make_shared<std::mt19937_64>(std::random_device()());
  return [engine] { return std::uniform_real_distribution<double>()(*engine); };
}

class AgentImpl final : public Agent {
 public:
  explicit AgentImpl(const AgentOptions& options)
      : options_(options), backoff_(kFirstWait, kLongestWait, Uniform()) {}

  ~AgentImpl() override { Stop(); }

  absl::Status Begin() {
    MPILAUNCH_RETURN_IF_ERROR(
        Annotate(ValidateName(options_.name), "this worker's name (--name, MPILAUNCH_NAME)"));
    if (std::filesystem::path(options_.job_root).lexically_normal() == "/") {
      return absl::InvalidArgumentError(
          "--job-root / is the whole system: name a folder of the agent's own");
    }
    MPILAUNCH_ASSIGN_OR_RETURN(init_, InitLoop::Start([this](int signal) { OnSignal(signal); }));
    facts_ = GatherHostFacts({options_.slots, options_.job_root}, *init_);
    MPILAUNCH_ASSIGN_OR_RETURN(blobs_,
                               BlobStore::Open(options_.job_root + "/store", options_.store_bytes));
    MPILAUNCH_ASSIGN_OR_RETURN(staging_,
                               Staging::Open({options_.job_root, blobs_.get(), init_.get()}));
    if (absl::Status status = staging_->CheckPrograms(); !status.ok()) {
      LogWarning(status.message());
      facts_.add_warnings(std::string(status.message()));
    }
    MPILAUNCH_RETURN_IF_ERROR(MakeServices());
    LogInfo(absl::StrCat("worker=", options_.name, " slots=", facts_.slots(), " (",
                         facts_.slots_reason(),
                         ") mpi=", facts_.mpi_version().empty() ? "none" : facts_.mpi_version(),
                         " frontend=", options_.frontend));
    dialler_ = std::thread([this] { Dial(); });
    return absl::OkStatus();
  }

  int Wait() override {
    { absl::MutexLock lock(&mutex_, absl::Condition(this, &AgentImpl::Stopping)); }
    Stop();
    absl::MutexLock lock(&mutex_);
    return 128 + stop_signal_;
  }

 private:
  absl::Status MakeServices() {
    ProcessService::Options options;
    options.init = init_.get();
    options.staging = staging_.get();
    MPILAUNCH_ASSIGN_OR_RETURN(
        options.job_environment,
        JobEnvironment(facts_, options_.preload, options_.job_root + "/preload"));
    process_ = std::make_unique<ProcessService>(std::move(options));
    blob_ = std::make_unique<BlobService>(BlobService::Options{
        blobs_.get(),
        [](const grpc::AuthContext& peer) { return RequireRole(peer, Role::kFrontend); }});
    return absl::OkStatus();
  }

  // The dialler's thread: for ever, until the agent stops.
  void Dial() {
    absl::Time last_seen = absl::Now();
    std::string last_complaint;
    while (!Left()) {
      const absl::Status status = HoldSession(last_seen);
      if (Left()) return;
      const absl::Duration wait = backoff_.Next();
      // Once per reason: an agent may wait for its frontend for days.
      if (std::string complaint(status.message()); complaint != last_complaint) {
        LogWarning(
            absl::StrCat("worker=", options_.name, " not registered: ", complaint, " (trying on)"));
        last_complaint = std::move(complaint);
      }
      if (absl::Now() - last_seen > kFrontendGrace) process_->EndAllJobs(absl::ZeroDuration());
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(this, &AgentImpl::Stopping), wait);
    }
  }

  // One registration, as long as it lasts. Moves `last_seen` when it was accepted.
  absl::Status HoldSession(absl::Time& last_seen) {
    MPILAUNCH_RETURN_IF_ERROR(BeServed());
    const uint16_t port =
        options_.control_port != 0 ? options_.control_port : served_->enrolled.control_port;
    v1::Registration registration;
    registration.set_port(served_->port);
    *registration.mutable_facts() = facts_;
    MPILAUNCH_ASSIGN_OR_RETURN(*registration.mutable_facts()->mutable_address(),
                               LocalAddressTowards(options_.frontend, port));
    MPILAUNCH_ASSIGN_OR_RETURN(*registration.mutable_facts()->mutable_network(),
                               NetworkOf(registration.facts().address()));
    Session session(options_.frontend, port, served_->enrolled.identity);
    if (!Hold(&session)) return absl::CancelledError("stopping");
    bool registered = false;
    const absl::Status status = session.Run(registration, [&](const std::string& instance) {
      registered = true;
      OnWelcome(instance);
    });
    Hold(nullptr);
    if (registered) last_seen = absl::Now();
    // The frontend may have a new CA or new ports, or our certificate may be over: a new one mends
    // all.
    if (!registered && absl::IsUnavailable(status)) enrol_again_ = true;
    return status;
  }

  void OnWelcome(const std::string& instance) {
    LogInfo(absl::StrCat("worker=", options_.name, " registered with ", options_.frontend));
    backoff_.Reset();
    if (!frontend_instance_.empty() && frontend_instance_ != instance)
      process_->EndAllJobs(absl::ZeroDuration());
    frontend_instance_ = instance;
  }

  // An identity of this bundle's CA, and a listener that shows it.
  absl::Status BeServed() {
    const absl::StatusOr<JoinBundle> bundle = ReadJoinBundle(options_.join_bundle, absl::Now());
    const bool usable = served_.has_value() && !enrol_again_ &&
                        (!bundle.ok() || bundle->ca_pem == served_->enrolled.identity.ca_pem);
    if (usable) return absl::OkStatus();
    MPILAUNCH_RETURN_IF_ERROR(bundle.status());
    const uint16_t enrol_port = options_.enrol_port != 0 ? options_.enrol_port : bundle->enrol_port;
    MPILAUNCH_ASSIGN_OR_RETURN(
        Enrolled enrolled,
        Enrol(options_.frontend, enrol_port, *bundle, options_.name, absl::Now() + kEnrolTimeout));
    enrol_again_ = false;
    EndServer();
    return Serve(std::move(enrolled));
  }

  absl::Status Serve(Enrolled enrolled) {
    const bool ipv6 = absl::StrContains(options_.listen, ":");
    const std::string address =
        absl::StrCat(ipv6 ? "[" : "", options_.listen, ipv6 ? "]:" : ":", options_.port);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, MutualServerCredentials(enrolled.identity), &port);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
    SetKeepalive(builder);
    builder.RegisterService(process_.get());
    builder.RegisterService(blob_.get());
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr || port == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen at ", address, ": is the port taken?"));
    }
    served_ = Served{std::move(enrolled), static_cast<uint16_t>(port), std::move(server)};
    return absl::OkStatus();
  }

  void EndServer() {
    if (!served_.has_value()) return;
    process_->EndAllJobs(absl::ZeroDuration());
    served_->server->Shutdown(absl::ToChronoTime(absl::Now() + kServerGrace));
    served_.reset();
  }

  // Makes the session reachable for Stop. False: the agent is stopping already.
  bool Hold(Session* session) {
    absl::MutexLock lock(&mutex_);
    session_ = session;
    return stop_signal_ == 0 && !left_;
  }

  void OnSignal(int signal) {
    if (signal != SIGTERM && signal != SIGINT) return;
    absl::MutexLock lock(&mutex_);
    if (stop_signal_ == 0) stop_signal_ = signal;
  }

  bool Stopping() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_signal_ != 0 || left_; }
  bool NoSession() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return session_ == nullptr; }
  bool Left() {
    absl::MutexLock lock(&mutex_);
    return Stopping();
  }

  // Goodbye first, so that no job is sent here any more; then the jobs; then the rest.
  void Stop() {
    {
      absl::MutexLock lock(&mutex_);
      left_ = true;
      if (session_ != nullptr) session_->Leave();
      if (!mutex_.AwaitWithTimeout(absl::Condition(this, &AgentImpl::NoSession), kGoodbyeTimeout))
        session_->Cancel();
    }
    if (process_ != nullptr) process_->EndAllJobs(kJobsGrace);
    if (dialler_.joinable()) dialler_.join();
    EndServer();
  }

  const AgentOptions options_;
  absl::Mutex mutex_;
  int stop_signal_ ABSL_GUARDED_BY(mutex_) = 0;
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
  Session* session_ ABSL_GUARDED_BY(mutex_) = nullptr;

  std::unique_ptr<InitLoop> init_;
  v1::WorkerFacts facts_;
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<ProcessService> process_;
  std::unique_ptr<BlobService> blob_;

  // The dialler's own.
  std::optional<Served> served_;
  bool enrol_again_ = false;
  std::string frontend_instance_;
  Backoff backoff_;
  std::thread dialler_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(const AgentOptions& options) {
  auto agent = std::make_unique<AgentImpl>(options);
  MPILAUNCH_RETURN_IF_ERROR(agent->Begin());
  return agent;
}

}  // namespace mpilaunch
