#include "launcher/rsh_server.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "launcher/rsh/rsh_protocol.h"

namespace mpilaunch {
namespace {

constexpr time_t kRequestTimeoutSeconds = 10;

void SendAll(int fd, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;  // mpirun took its rsh agent down: the job ends, and with it the command
    sent += static_cast<size_t>(n);
  }
}

absl::StatusOr<RshRequest> ReceiveRequest(int fd) {
  const timeval timeout = {kRequestTimeoutSeconds, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  RshFrameDecoder decoder;
  RshFrame frame;
  for (;;) {
    const RshFrameDecoder::Result result = decoder.Next(&frame);
    if (result == RshFrameDecoder::Result::kCorrupt)
      return absl::InvalidArgumentError(decoder.error());
    if (result == RshFrameDecoder::Result::kFrame) break;
    char buffer[16384];
    const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return absl::UnavailableError("no request came");
    decoder.Append({buffer, static_cast<size_t>(n)});
  }
  RshRequest request;
  std::string error;
  if (frame.type != RshFrameType::kRequest || !DecodeRshRequest(frame.payload, &request, &error)) {
    return absl::InvalidArgumentError(absl::StrCat("bad request: ", error));
  }
  return request;
}

// Runs the command on the worker and relays its output. The exit code, or why there is none.
absl::StatusOr<int> Relay(v1::Process::Stub& agent, grpc::ClientContext& context,
                          const RshRequest& request, JobRun& job, int fd) {
  auto stream = agent.Exec(&context);
  v1::ExecRequest start;
  start.mutable_start()->set_job(request.job);
  start.mutable_start()->set_command(request.command);
  stream->Write(start);
  v1::ExecEvent event;
  absl::StatusOr<int> code =
      absl::UnavailableError("the agent ended the call without an exit code");
  while (stream->Read(&event)) {
    if (event.kind_case() == v1::ExecEvent::kStartedPid) {
      job.DaemonStarted();
    } else if (event.kind_case() == v1::ExecEvent::kStdout) {
      SendAll(fd, EncodeRshData(RshFrameType::kStdout, event.stdout()));
    } else if (event.kind_case() == v1::ExecEvent::kStderr) {
      SendAll(fd, EncodeRshData(RshFrameType::kStderr, event.stderr()));
    } else if (event.kind_case() == v1::ExecEvent::kExit) {
      code = event.exit().code();
    }
  }
  const absl::Status status = FromGrpc(stream->Finish());
  return status.ok() ? code : status;
}

absl::StatusOr<int> RunOnWorker(const RshRequest& request, JobManager& jobs, int fd) {
  const std::shared_ptr<JobRun> job = jobs.Find(request.job);
  if (job == nullptr)
    return absl::NotFoundError(absl::StrCat("job ", request.job, " does not run here"));
  MPILAUNCH_ASSIGN_OR_RETURN(const std::shared_ptr<WorkerClient> worker,
                             job->FindWorker(request.host));
  grpc::ClientContext context;
  if (!job->DaemonStarting(&context)) return absl::CancelledError("the job is ending");
  const absl::StatusOr<int> code = Relay(*worker->process, context, request, *job, fd);
  const absl::Status status =
      Annotate(code.status(), absl::StrCat("starting Open MPI's daemon on worker ", worker->name));
  job->DaemonEnded(&context, status);
  if (!status.ok()) return status;
  return code;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RshServer>> RshServer::Start(const std::string& socket_path,
                                                            JobManager* jobs) {
  std::unique_ptr<RshServer> server(new RshServer(jobs));
  MPILAUNCH_ASSIGN_OR_RETURN(server->listener_,
                             UnixListener::Start(socket_path, [self = server.get()](UniqueFd fd) {
                               self->OnConnection(std::move(fd));
                             }));
  return server;
}

RshServer::~RshServer() {
  listener_.reset();
  absl::MutexLock lock(&mutex_, absl::Condition(this, &RshServer::NoConnections));
}

void RshServer::OnConnection(UniqueFd connection) {
  {
    absl::MutexLock lock(&mutex_);
    ++connections_;
  }
  std::thread([this, connection = std::move(connection)]() mutable {
    absl::StatusOr<RshRequest> request = ReceiveRequest(connection.get());
    const absl::StatusOr<int> code = request.ok() ? RunOnWorker(*request, *jobs_, connection.get())
                                                  : absl::StatusOr<int>(request.status());
    RshExit exit;
    exit.code = code.ok() ? *code : kRshFailed;
    if (!code.ok()) exit.reason = std::string(code.status().message());
    SendAll(connection.get(), EncodeRshExit(exit));
    connection.reset();
    absl::MutexLock lock(&mutex_);
    --connections_;
  }).detach();  // the destructor waits for it
}

}  // namespace mpilaunch
