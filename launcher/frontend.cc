#include "launcher/frontend.h"

#include <fcntl.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/blob_service.h"
#include "common/blob_store.h"
#include "common/certificate_authority.h"
#include "common/init_loop.h"
#include "common/join_bundle.h"
#include "common/keepalive.h"
#include "common/own_binary.h"
#include "common/private_folder.h"
#include "common/status_macros.h"
#include "launcher/cluster.h"
#include "launcher/enrolment_service.h"
#include "launcher/job_manager.h"
#include "launcher/job_service.h"
#include "launcher/membership_service.h"
#include "launcher/own_worker.h"
#include "launcher/rsh_server.h"
#include "launcher/unix_listener.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kWorkerCertificateLifetime = absl::Hours(24 * 365);
// Made anew at each start and kept in memory only.
constexpr absl::Duration kFrontendCertificateLifetime = absl::Hours(24 * 365 * 5);
constexpr absl::Duration kShutdownGrace = absl::Seconds(1);

absl::StatusOr<TlsIdentity> OwnIdentity(const CertificateAuthority& ca, absl::Time now) {
  MPILAUNCH_ASSIGN_OR_RETURN(KeyAndRequest key, NewKeyAndRequest());
  MPILAUNCH_ASSIGN_OR_RETURN(std::string certificate,
                             ca.Sign(key.csr_pem, {ca.cluster(), Role::kFrontend, kFrontendName},
                                     now, kFrontendCertificateLifetime));
  return TlsIdentity{std::move(key.key_pem), std::move(certificate), ca.certificate_pem()};
}

std::string HostPort(const std::string& host, uint16_t port) {
  return absl::StrContains(host, ":") ? absl::StrCat("[", host, "]:", port)
                                      : absl::StrCat(host, ":", port);
}

// A TCP server; `port` becomes the one that was bound.
absl::StatusOr<std::unique_ptr<grpc::Server>> Listen(
    const std::string& host, uint16_t& port,
    const std::shared_ptr<grpc::ServerCredentials>& credentials, grpc::Service* service) {
  grpc::ServerBuilder builder;
  int bound = 0;
  builder.AddListeningPort(HostPort(host, port), credentials, &bound);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  SetKeepalive(builder);
  // Requests and registrations are small; strangers may talk to the enrol listener.
  builder.SetMaxReceiveMessageSize(EnrolmentService::kMaxMessageBytes);
  builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || bound == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen at ", HostPort(host, port),
                     ": is the port taken, or the address not of this machine?"));
  }
  port = static_cast<uint16_t>(bound);
  return server;
}

class FrontendImpl final : public Frontend {
 public:
  explicit FrontendImpl(const FrontendOptions& options) : options_(options) {}
  ~FrontendImpl() override { Stop(); }

  absl::Status Begin() {
    MPILAUNCH_RETURN_IF_ERROR(MakePrivateFolder(options_.state_dir));
    MPILAUNCH_ASSIGN_OR_RETURN(
        ca_, CertificateAuthority::LoadOrCreate(options_.state_dir + "/ca", absl::Now()));
    MPILAUNCH_ASSIGN_OR_RETURN(identity_, OwnIdentity(*ca_, absl::Now()));
    MPILAUNCH_ASSIGN_OR_RETURN(init_, InitLoop::Start([this](int signal) { OnSignal(signal); }));
    MPILAUNCH_ASSIGN_OR_RETURN(
        blobs_, BlobStore::Open(options_.state_dir + "/blobs", options_.store_bytes));
    MPILAUNCH_RETURN_IF_ERROR(BeginJobs());
    MPILAUNCH_RETURN_IF_ERROR(BeginNetwork());
    MPILAUNCH_RETURN_IF_ERROR(BeginLocal());
    MPILAUNCH_RETURN_IF_ERROR(WriteBundle());
    LogInfo(absl::StrCat("frontend up: control ", HostPort(options_.listen, options_.control_port),
                         ", enrol ", HostPort(options_.listen, options_.enrol_port), ", socket ",
                         options_.socket, ", join bundle ", options_.join_bundle, ", Open MPI ",
                         mpi_version_));
    if (options_.ready_fd >= 0) {
      if (write(options_.ready_fd, "\n", 1) != 1) LogWarning("nobody reads --ready-fd");
      close(options_.ready_fd);
    }
    return absl::OkStatus();
  }

  int Wait() override {
    for (;;) {
      {
        absl::MutexLock lock(&mutex_);
        // Half way through, so that a worker that starts at any time finds a token of some life.
        if (mutex_.AwaitWithTimeout(absl::Condition(this, &FrontendImpl::Stopping),
                                    options_.bundle_lifetime / 2)) {
          break;
        }
      }
      if (absl::Status status = WriteBundle(); !status.ok()) LogError(status.message());
    }
    LogInfo("frontend stops");
    Stop();
    absl::MutexLock lock(&mutex_);
    return 128 + stop_signal_;
  }

 private:
  absl::Status BeginJobs() {
    MPILAUNCH_ASSIGN_OR_RETURN(MpiInstallation mpi, FindMpiInstallation(*init_));
    mpi_version_ = mpi.version;
    char host_name[256] = "";
    gethostname(host_name, sizeof(host_name) - 1);
    const std::string own_worker = absl::StrCat(host_name, "-here");
    cluster_ = std::make_unique<Cluster>(Cluster::Options{.own_host_name = host_name,
                                                          .own_worker = own_worker,
                                                          .mpi_version = mpi.version,
                                                          .identity = identity_});
    own_worker_ = std::make_unique<OwnWorker>(DescribeOwnWorker(own_worker));
    JobServices services;
    services.own_worker = own_worker_.get();
    services.cluster = cluster_.get();
    services.blobs = blobs_.get();
    services.init = init_.get();
    services.mpi = std::move(mpi);
    services.rsh_agent = OwnBinaryFolder() + "/mpilaunch-rsh";
    if (access(services.rsh_agent.c_str(), X_OK) != 0) {
      return absl::NotFoundError(
          absl::StrCat(services.rsh_agent, " is missing: it belongs beside mpilaunchd"));
    }
    services.rsh_socket = RshSocketPath(options_.socket);
    services.run_directory = std::filesystem::path(options_.socket).parent_path() / "jobs";
    MPILAUNCH_RETURN_IF_ERROR(
        MakePrivateFolder(std::filesystem::path(options_.socket).parent_path()));
    std::error_code ignored;
    std::filesystem::remove_all(services.run_directory,
                                ignored);  // of an earlier run that was killed
    MPILAUNCH_ASSIGN_OR_RETURN(
        jobs_, JobManager::Open(std::move(services), options_.state_dir + "/last_job"));
    return absl::OkStatus();
  }

  OwnWorker::Options DescribeOwnWorker(const std::string& name) {
    const bool everywhere = options_.listen == "0.0.0.0" || options_.listen == "::";
    OwnWorker::Options own;
    own.init = init_.get();
    own.agent = OwnBinaryFolder() + "/mpilaunch-agent";
    own.name = name;
    own.frontend = everywhere ? "127.0.0.1" : options_.listen;  // the bundle has the ports
    own.join_bundle = options_.join_bundle;
    own.job_root = std::filesystem::path(options_.socket).parent_path() / "here";
    own.on_end = [cluster = cluster_.get()] { cluster->Wake(); };
    return own;
  }

  absl::Status BeginNetwork() {
    membership_ = std::make_unique<MembershipService>(
        cluster_.get(), absl::StrCat(absl::ToUnixNanos(absl::Now()), "-", getpid()));
    MPILAUNCH_ASSIGN_OR_RETURN(control_server_,
                               Listen(options_.listen, options_.control_port,
                                      MutualServerCredentials(identity_), membership_.get()));
    EnrolmentService::Options enrolment;
    enrolment.ca = ca_.get();
    enrolment.control_port = options_.control_port;
    enrolment.clock = absl::Now;
    enrolment.certificate_lifetime = kWorkerCertificateLifetime;
    enrolment_ = std::make_unique<EnrolmentService>(std::move(enrolment));
    MPILAUNCH_ASSIGN_OR_RETURN(enrol_server_,
                               Listen(options_.listen, options_.enrol_port,
                                      EnrolServerCredentials(identity_), enrolment_.get()));
    return absl::OkStatus();
  }

  // gRPC cannot ask a Unix peer for its uid, so we accept, check, and hand the connection over.
  absl::Status BeginLocal() {
    job_service_ = std::make_unique<JobService>(jobs_.get(), cluster_.get());
    blob_service_ = std::make_unique<BlobService>(BlobService::Options{
        blobs_.get(), [](const grpc::AuthContext&) { return absl::OkStatus(); }});
    grpc::ServerBuilder builder;
    builder.RegisterService(job_service_.get());
    builder.RegisterService(blob_service_.get());
    local_server_ = builder.BuildAndStart();
    if (local_server_ == nullptr) return absl::InternalError("cannot start the local server");
    MPILAUNCH_ASSIGN_OR_RETURN(rsh_server_,
                               RshServer::Start(RshSocketPath(options_.socket), jobs_.get()));
    MPILAUNCH_ASSIGN_OR_RETURN(
        local_listener_, UnixListener::Start(options_.socket, [this](UniqueFd connection) {
          fcntl(connection.get(), F_SETFL, O_NONBLOCK);
          grpc::AddInsecureChannelFromFd(local_server_.get(), connection.release());
        }));
    return absl::OkStatus();
  }

  absl::Status WriteBundle() {
    const absl::Time expires = absl::Now() + options_.bundle_lifetime;
    JoinBundle bundle;
    bundle.cluster = ca_->cluster();
    bundle.role = Role::kWorker;
    bundle.token = ca_->MintToken(Role::kWorker, expires);
    bundle.expires = expires;
    bundle.ca_pem = ca_->certificate_pem();
    bundle.enrol_port = options_.enrol_port;
    bundle.control_port = options_.control_port;
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(options_.join_bundle).parent_path(),
                                        ignored);
    return WriteJoinBundle(options_.join_bundle, bundle);
  }

  void OnSignal(int signal) {
    if (signal != SIGTERM && signal != SIGINT) return;
    absl::MutexLock lock(&mutex_);
    if (stop_signal_ == 0) stop_signal_ = signal;
  }

  bool Stopping() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_signal_ != 0; }

  // In the order of dependence: jobs use everything, the servers use the services, the loop is
  // last.
  void Stop() {
    local_listener_.reset();
    if (jobs_ != nullptr) jobs_->Stop();
    own_worker_.reset();
    rsh_server_.reset();
    for (std::unique_ptr<grpc::Server>* server :
         {&local_server_, &enrol_server_, &control_server_}) {
      if (*server != nullptr) (*server)->Shutdown(absl::ToChronoTime(absl::Now() + kShutdownGrace));
      server->reset();
    }
  }

  FrontendOptions options_;
  absl::Mutex mutex_;
  int stop_signal_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string mpi_version_;
  std::unique_ptr<CertificateAuthority> ca_;
  TlsIdentity identity_;
  std::unique_ptr<InitLoop> init_;
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<OwnWorker> own_worker_;
  std::unique_ptr<JobManager> jobs_;
  std::unique_ptr<MembershipService> membership_;
  std::unique_ptr<EnrolmentService> enrolment_;
  std::unique_ptr<JobService> job_service_;
  std::unique_ptr<BlobService> blob_service_;
  std::unique_ptr<grpc::Server> control_server_;
  std::unique_ptr<grpc::Server> enrol_server_;
  std::unique_ptr<grpc::Server> local_server_;
  std::unique_ptr<RshServer> rsh_server_;
  std::unique_ptr<UnixListener> local_listener_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Frontend>> Frontend::Start(const FrontendOptions& options) {
  auto frontend = std::make_unique<FrontendImpl>(options);
  MPILAUNCH_RETURN_IF_ERROR(frontend->Begin());
  return frontend;
}

}  // namespace mpilaunch
