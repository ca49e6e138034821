#include "launcher/job_service.h"

#include <atomic>
#include <memory>
#include <utility>

#include "common/grpc_status.h"
#include "common/stream_writer.h"

namespace mpilaunch {
namespace {

constexpr size_t kMaxQueuedOutput = 4 << 20;

// One client's Run stream. Lives until gRPC is done with it and the job's thread has let go of it:
// each holds a reference.
class RunReactor final : public grpc::ServerBidiReactor<v1::RunRequest, v1::RunEvent>,
                         public JobEvents,
                         public std::enable_shared_from_this<RunReactor> {
 public:
  explicit RunReactor(JobManager* jobs)
      : jobs_(jobs),
        writer_([this](const v1::RunEvent* event) { StartWrite(event); }, kMaxQueuedOutput) {}

  void Start() {
    self_ = shared_from_this();
    StartRead(&request_);
  }

  bool Send(v1::RunEvent event) override { return writer_.Write(std::move(event)); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      if (job_ != nullptr) {
        job_->ClientGone();  // ignored when the job has ended
      } else {
        writer_.CloseWhenEmpty([this] { Finish(grpc::Status::OK); });
      }
      return;
    }
    if (job_ == nullptr) {
      if (!Submit()) return;
    } else {
      Forward();
    }
    StartRead(&request_);
  }

  void OnWriteDone(bool ok) override {
    if (writer_.OnWriteDone(ok) && job_ != nullptr) job_->OutputRoom();
    if (!ok && job_ != nullptr) job_->OutputRoom();  // nobody listens: let the output drain
  }

  void OnCancel() override {
    // Before the first read has been answered there is no job; the failing read ends the call then.
    if (job_submitted_.load(std::memory_order_acquire)) job_->ClientGone();
  }

  void OnDone() override {
    job_.reset();  // the job refers to us in turn
    self_.reset();
  }

 private:
  bool Submit() {
    absl::StatusOr<std::shared_ptr<JobRun>> job =
        absl::InvalidArgumentError("the first request must be a spec");
    if (request_.has_spec()) {
      job = jobs_->Submit(request_.spec(), shared_from_this(), [self = shared_from_this()] {
        self->writer_.CloseWhenEmpty([self] { self->Finish(grpc::Status::OK); });
      });
    }
    if (!job.ok()) {
      writer_.CloseWhenEmpty([this, status = job.status()] { Finish(ToGrpc(status)); });
      return false;
    }
    job_ = *std::move(job);
    job_submitted_.store(true, std::memory_order_release);
    return true;
  }

  void Forward() {
    switch (request_.kind_case()) {
      case v1::RunRequest::kStdin:
        return job_->WriteStdin(std::move(*request_.mutable_stdin()));
      case v1::RunRequest::kStdinEof:
        return job_->CloseStdin();
      case v1::RunRequest::kSignal:
        return job_->Signal(request_.signal());
      default:
        return;
    }
  }

  JobManager* const jobs_;
  std::shared_ptr<RunReactor> self_;
  v1::RunRequest request_;
  std::shared_ptr<JobRun> job_;
  std::atomic<bool> job_submitted_ = false;
  StreamWriter<v1::RunEvent> writer_;
};

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

}  // namespace

grpc::ServerBidiReactor<v1::RunRequest, v1::RunEvent>* JobService::Run(
    grpc::CallbackServerContext*) {
  auto reactor = std::make_shared<RunReactor>(jobs_);
  reactor->Start();
  return reactor.get();
}

grpc::ServerUnaryReactor* JobService::List(grpc::CallbackServerContext* context,
                                           const v1::ListJobsRequest*,
                                           v1::ListJobsResponse* response) {
  for (v1::JobInfo& info : jobs_->List()) *response->add_jobs() = std::move(info);
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* JobService::Cancel(grpc::CallbackServerContext* context,
                                             const v1::CancelJobRequest* request,
                                             v1::CancelJobResponse*) {
  return Answer(context, jobs_->Cancel(request->job()));
}

grpc::ServerUnaryReactor* JobService::Workers(grpc::CallbackServerContext* context,
                                              const v1::WorkersRequest*,
                                              v1::WorkersResponse* response) {
  for (const Worker& worker : cluster_->Workers()) {
    v1::WorkerInfo* info = response->add_workers();
    info->set_name(worker.name);
    info->set_state(worker.state);
    *info->mutable_facts() = worker.facts;
    info->set_slots_used(worker.slots_used);
    info->set_since_unix_ms(absl::ToUnixMillis(worker.since));
  }
  return Answer(context, absl::OkStatus());
}

}  // namespace mpilaunch
