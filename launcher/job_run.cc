#include "launcher/job_run.h"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/exit_codes.h"
#include "common/logging.h"
#include "common/network.h"
#include "common/program_path.h"
#include "common/status_macros.h"
#include "launcher/hostfile.h"
#include "launcher/mpi_defaults.h"
#include "launcher/shared_memory_warnings.h"

namespace mpilaunch {
namespace {

// mpirun needs about 10 ms to end a job in order; longer than this and it hangs on something that
// is gone.
constexpr absl::Duration kMpirunGrace = absl::Seconds(3);
constexpr absl::Duration kMpirunFollows = absl::Seconds(20);
constexpr absl::Duration kEndJobTimeout = absl::Seconds(8);
// A worker that lost only its session answers at once, one that is gone never.
constexpr absl::Duration kEndJobOnLostTimeout = absl::Seconds(1);
constexpr absl::Duration kDaemonsGone = absl::Seconds(8);
constexpr absl::Duration kOwnWorkerStarts = absl::Seconds(20);  // usually a tenth of one
constexpr uint32_t kStdinCredit = 1 << 20;

absl::Status WriteHostfile(const std::string& path, const std::vector<RankBlock>& blocks) {
  std::ofstream file(path);
  file << FormatHostfile(blocks);
  file.close();
  return file ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("cannot write ", path));
}

v1::StageRequest MakeStageRequest(const std::string& job, const v1::JobSpec& spec) {
  v1::StageRequest request;
  request.set_job(job);
  *(spec.workers_program() ? request.mutable_workers_program() : request.mutable_program()) =
      spec.program();
  request.set_working_directory(spec.working_directory());
  for (const v1::EnvironmentEntry& entry : spec.environment()) {
    if (entry.name() == "LD_LIBRARY_PATH") request.set_library_path(entry.value());
    if (entry.name() == "PATH") request.set_search_path(entry.value());
  }
  *request.mutable_files() = FilesOf(spec);
  return request;
}

// Our own network on the way to a worker; "none" is no worker's, so that none is chosen.
std::string NetworkTowards(const std::string& worker_address) {
  constexpr uint16_t kAnyPort = 9;  // nothing is sent
  const absl::StatusOr<std::string> own = LocalAddressTowards(worker_address, kAnyPort);
  return own.ok() ? NetworkOf(*own).value_or("none") : "none";
}

}  // namespace

google::protobuf::RepeatedPtrField<v1::StagedFile> FilesOf(const v1::JobSpec& spec) {
  google::protobuf::RepeatedPtrField<v1::StagedFile> files = spec.files();
  if (spec.workers_program()) return files;
  v1::StagedFile* program = files.Add();
  program->set_name(spec.program());
  program->set_sha256(spec.digest().sha256());
  program->set_size(spec.digest().size());
  program->set_executable(true);
  return files;
}

JobRun::JobRun(std::string id, v1::JobSpec spec, HeldBlobs blobs, const JobServices& services,
               std::shared_ptr<JobEvents> events)
    : id_(std::move(id)),
      spec_(std::move(spec)),
      services_(services),
      events_(std::move(events)),
      directory_(absl::StrCat(services.run_directory, "/", id_)),
      blobs_(std::move(blobs)) {
  info_.set_job(id_);
  info_.set_state(v1::QUEUED);
  info_.set_command(spec_.user_command());
  info_.set_ranks(spec_.ranks());
  info_.set_submitted_unix_ms(absl::ToUnixMillis(services_.clock()));
}

void JobRun::Run() {
  v1::RunEvent first;
  first.set_job(id_);
  events_->Send(std::move(first));
  v1::RunEvent credit;
  credit.set_stdin_credit(kStdinCredit);
  events_->Send(std::move(credit));
  const End end = Execute();
  {
    absl::MutexLock lock(&mutex_);
    info_.set_exit_code(end.code);
    info_.set_error(end.error);
    info_.set_ended_unix_ms(absl::ToUnixMillis(services_.clock()));
  }
  EnterState(end.state);
  v1::RunEvent last;
  last.mutable_exit()->set_code(end.code);
  last.mutable_exit()->set_error(end.error);
  events_->Send(std::move(last));
}

JobRun::End JobRun::Execute() {
  auto failed = [this](const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (end_) return *end_;
    return End{kExitOwnFailure, v1::FAILED, std::string(status.message())};
  };
  absl::StatusOr<Allocation> allocation = AcquireSlots();
  if (!allocation.ok()) return failed(allocation.status());

  absl::StatusOr<ExitInfo> exit = [&]() -> absl::StatusOr<ExitInfo> {
    MPILAUNCH_RETURN_IF_ERROR(Stage(*allocation));
    MPILAUNCH_RETURN_IF_ERROR(StartMpirun(*allocation));
    return AwaitMpirun();
  }();
  Phase("end");
  CleanUp(*allocation);
  return exit.ok() ? Explain(*exit) : failed(exit.status());
}

absl::StatusOr<Allocation> JobRun::AcquireSlots() {
  SlotRequest request;
  request.job = id_;
  request.placement = {spec_.ranks(), spec_.placement(), spec_.oversubscribe(),
                       spec_.min_workers()};
  request.wait_deadline = services_.clock() + absl::Seconds(spec_.wait_seconds());
  bool told = false;
  request.on_wait = [this, &told](const std::string& reason) {
    // The reason changes with every job that comes or ends: once is enough to know why nothing
    // happens. A cluster of this job's own (--local) comes up within a moment: nobody waits in a
    // line there.
    if (!spec_.verbose() && (told || spec_.min_workers() > 0 || spec_.here())) return;
    told = true;
    Notice(absl::StrCat("job ", id_, " waits: ", reason));
  };
  request.here = spec_.here();
  if (spec_.here()) {
    MPILAUNCH_RETURN_IF_ERROR(services_.own_worker->Start());
    request.wait_deadline = std::max(request.wait_deadline, services_.clock() + kOwnWorkerStarts);
  }
  request.cancelled = [this] { return Ending() || OwnWorkerFailed(); };
  request.on_worker_lost = [this](const std::string& worker) {
    {
      absl::MutexLock lock(&mutex_);
      lost_.insert(worker);
    }
    RequestEnd({kExitOwnFailure, v1::FAILED,
                absl::StrCat("worker ", worker, " was lost while the job ran")});
  };
  absl::StatusOr<Allocation> acquired = services_.cluster->Acquire(request);
  if (!acquired.ok() && OwnWorkerFailed()) {
    return absl::UnavailableError(
        "the agent for --here ended before it had registered: mpilaunchd's log says why");
  }
  MPILAUNCH_ASSIGN_OR_RETURN(Allocation allocation, std::move(acquired));
  if (spec_.here() && allocation.ranks() > allocation.facts.front().slots()) {
    Notice(absl::StrCat(allocation.ranks(), " ranks share the frontend's ",
                        allocation.facts.front().slots(), " slots"));
  }
  if (told) Notice(absl::StrCat("job ", id_, " starts"));
  absl::MutexLock lock(&mutex_);
  workers_ = allocation.workers;
  info_.set_ranks(allocation.ranks());
  for (const RankBlock& block : allocation.blocks) {
    v1::RankBlock* shown = info_.add_blocks();
    shown->set_worker(block.worker);
    shown->set_ranks(block.ranks);
  }
  return allocation;
}

absl::Status JobRun::Stage(const Allocation& allocation) {
  EnterState(v1::STAGING);
  Phase("queue");
  std::vector<NamedFacts> facts;
  for (size_t i = 0; i < allocation.blocks.size(); ++i) {
    facts.push_back({allocation.blocks[i].worker, &allocation.facts[i]});
  }
  MPILAUNCH_RETURN_IF_ERROR(CheckWorkersAgree(facts));

  StageJob stage;
  stage.on_progress = [this](const std::string& text) { Notice(text); };
  stage.cancelled = [this] { return Ending(); };
  stage.request = MakeStageRequest(id_, spec_);
  stage.blobs = std::move(blobs_);
  const absl::Status staged = StageOnWorkers(allocation.workers, stage);
  if (absl::IsNotFound(staged)) {
    RequestEnd(
        {kExitNotFound, v1::FAILED,
         absl::StrCat(staged.message(), "\n(", spec_.program(),
                      " is no file in the folder where mpilaunch was started, so it is meant "
                      "as a program of the workers)")});
  }
  MPILAUNCH_RETURN_IF_ERROR(staged);
  Phase("push");
  return absl::OkStatus();
}

absl::Status JobRun::StartMpirun(const Allocation& allocation) {
  if (Ending()) return absl::CancelledError("ended while staging");
  EnterState(v1::LAUNCHING);
  std::error_code error;
  std::filesystem::create_directories(directory_ + "/tmp", error);
  if (error)
    return absl::UnavailableError(absl::StrCat("cannot make ", directory_, ": ", error.message()));
  const std::string hostfile = directory_ + "/hostfile";
  MPILAUNCH_RETURN_IF_ERROR(WriteHostfile(hostfile, allocation.blocks));

  for (std::string& warning : SharedMemoryWarnings(allocation.blocks, allocation.facts)) {
    Notice(std::move(warning));
  }
  const MpirunCommand command = BuildMpirunCommand(DescribeLaunch(allocation, hostfile));
  if (spec_.verbose()) {
    for (const std::string& line : command.explanation) Notice(line);
    Notice(absl::StrJoin(command.argv, " "));
  }

  SpawnRequest request;
  request.argv = command.argv;
  request.environment = command.environment;
  request.working_directory = directory_;
  request.stdin_mode = Stdio::kPipe;
  // PRRTE 3.0.8 loses what its mpirun reads at once beyond 4096 bytes.
  request.stdin_in_packets = services_.mpi.runtime == MpiRuntime::kPrrte;
  request.on_stdout = [events = events_](std::string bytes) {
    v1::RunEvent event;
    event.set_stdout(std::move(bytes));
    return events->Send(std::move(event));
  };
  request.on_stderr = [this](std::string bytes) {
    return OnlyComplains() || SendStderr(noise_.Filter(bytes));
  };
  request.on_stdin_taken = [events = events_](size_t bytes) {
    v1::RunEvent event;
    event.set_stdin_credit(static_cast<uint32_t>(bytes));
    events->Send(std::move(event));
  };
  request.on_exit = [this](ExitInfo exit) {
    SendStderr(noise_.Rest());
    absl::MutexLock lock(&mutex_);
    exit_ = exit;
  };
  MPILAUNCH_ASSIGN_OR_RETURN(const pid_t pid, services_.init->Spawn(std::move(request)));
  const rlimit files = {command.max_open_files, command.max_open_files};
  prlimit(pid, RLIMIT_NOFILE, &files, nullptr);  // only mpirun's speed depends on it
  Phase("mpirun spawned");
  absl::MutexLock lock(&mutex_);
  mpirun_ = pid;
  info_.set_started_unix_ms(absl::ToUnixMillis(services_.clock()));
  if (!early_stdin_.empty()) services_.init->WriteStdin(pid, std::exchange(early_stdin_, ""));
  if (stdin_closed_) services_.init->CloseStdin(pid);
  return absl::OkStatus();
}

MpirunRequest JobRun::DescribeLaunch(const Allocation& allocation,
                                     const std::string& hostfile) const {
  MpiDefaultsRequest defaults;
  defaults.runtime = services_.mpi.runtime;
  for (size_t i = 0; i < allocation.blocks.size(); ++i) {
    defaults.shares.push_back({&allocation.facts[i], allocation.blocks[i].ranks});
  }
  defaults.exclusive = allocation.exclusive;
  defaults.frontend_network = NetworkTowards(allocation.facts.front().address());
  MpirunRequest request;
  request.runtime = services_.mpi.runtime;
  request.job = id_;
  request.spec = spec_;
  request.ranks = allocation.ranks();
  request.defaults = ChooseMpiDefaults(defaults);
  request.mpirun = services_.mpi.mpirun;
  request.hostfile = hostfile;
  request.frontend_tmp = directory_ + "/tmp";
  request.rsh_agent = services_.rsh_agent;
  request.rsh_socket = services_.rsh_socket;
  request.job_root = allocation.facts.front().job_root();
  request.root = geteuid() == 0;
  request.frontend_environment = CurrentEnvironment();
  return request;
}

ExitInfo JobRun::AwaitMpirun() {
  absl::MutexLock lock(&mutex_);
  const absl::Time timeout = spec_.timeout_seconds() == 0
                                 ? absl::InfiniteFuture()
                                 : absl::Now() + absl::Seconds(spec_.timeout_seconds());
  if (!mutex_.AwaitWithDeadline(absl::Condition(this, &JobRun::DaemonGoneOrEnd), timeout)) {
    end_ = End{kExitTimeout, v1::FAILED,
               absl::StrCat("--timeout ", spec_.timeout_seconds(), " expired")};
  }
  // Daemons end when mpirun tells them to, and then it ends as well. If one ends by itself mpirun
  // may not notice: a daemon that exits before it has called back is waited for without end.
  const absl::Time deadline = std::min(timeout, absl::Now() + kMpirunFollows);
  if (!mutex_.AwaitWithDeadline(absl::Condition(this, &JobRun::ExitedOrEnding), deadline)) {
    end_ = End{kExitOwnFailure, v1::FAILED,
               "a daemon of Open MPI ended before its time, and mpirun did not notice"};
  }
  if (!exit_) {
    services_.init->Signal(mpirun_, SIGTERM);
    if (!mutex_.AwaitWithTimeout(absl::Condition(this, &JobRun::ExitedOrForced), kMpirunGrace) ||
        !exit_) {
      services_.init->Signal(mpirun_, SIGKILL);
      mutex_.Await(absl::Condition(this, &JobRun::Exited));
    }
  }
  return *exit_;
}

JobRun::End JobRun::Explain(const ExitInfo& exit) const {
  absl::MutexLock lock(&mutex_);
  if (end_) return *end_;
  if (exit.code != 0 && !daemon_error_.empty()) return {kExitOwnFailure, v1::FAILED, daemon_error_};
  return {exit.code, exit.code == 0 ? v1::DONE : v1::FAILED, ""};
}

void JobRun::CleanUp(const Allocation& allocation) {
  v1::EndJobRequest request;
  request.set_job(id_);
  auto replies = CallAll<v1::EndJobResponse>(
      allocation.workers, absl::Now() + kEndJobTimeout,
      [&](WorkerClient& worker, grpc::ClientContext* context, v1::EndJobResponse* response,
          auto done) {
        if (Lost(worker.name)) {
          context->set_deadline(absl::ToChronoTime(absl::Now() + kEndJobOnLostTimeout));
        }
        worker.process->async()->EndJob(context, &request, response, std::move(done));
      });
  for (const auto& reply : replies) {
    if (!reply.status.ok())
      LogWarning(absl::StrCat("job=", id_, " cleaning up: ", reply.status.message()));
  }
  {
    absl::MutexLock lock(&mutex_);
    if (!mutex_.AwaitWithTimeout(absl::Condition(this, &JobRun::NoDaemons), kDaemonsGone)) {
      for (grpc::ClientContext* context : daemons_) context->TryCancel();
      mutex_.Await(absl::Condition(this, &JobRun::NoDaemons));
    }
    workers_.clear();
  }
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
  services_.cluster->Release(allocation);
}

void JobRun::RequestEnd(End end) {
  absl::MutexLock lock(&mutex_);
  if (!end_) end_ = std::move(end);
}

// A launch that is called off makes mpirun and its rsh agents complain at length about each other,
// and so does a daemon that is lost with its worker: what happened is said by us, in one line.
bool JobRun::OnlyComplains() const {
  absl::MutexLock lock(&mutex_);
  if (spec_.verbose()) return false;
  return (end_.has_value() && info_.state() == v1::LAUNCHING) || !lost_.empty() ||
         !daemon_error_.empty();
}

bool JobRun::OwnWorkerFailed() const { return spec_.here() && !services_.own_worker->Running(); }

bool JobRun::Lost(const std::string& worker) const {
  absl::MutexLock lock(&mutex_);
  return lost_.count(worker) > 0;
}

bool JobRun::Ending() const {
  absl::MutexLock lock(&mutex_);
  return end_.has_value();
}

void JobRun::Signal(int signal) {
  if (signal == SIGUSR1 || signal == SIGUSR2) {
    absl::MutexLock lock(&mutex_);
    if (mpirun_ != 0 && !exit_) services_.init->Signal(mpirun_, signal);
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    if (end_) forced_ = true;
  }
  RequestEnd({128 + signal, v1::CANCELLED, ""});
  services_.cluster->Wake();
}

void JobRun::Cancel() {
  RequestEnd({kExitOwnFailure, v1::CANCELLED, absl::StrCat("job ", id_, " was cancelled")});
  services_.cluster->Wake();
}

void JobRun::ClientGone() {
  RequestEnd({kExitOwnFailure, v1::CANCELLED, "the client went away"});
  services_.cluster->Wake();
}

void JobRun::WriteStdin(std::string bytes) {
  absl::MutexLock lock(&mutex_);
  if (exit_ || stdin_closed_) return;
  if (mpirun_ == 0) {
    early_stdin_ += bytes;
  } else {
    services_.init->WriteStdin(mpirun_, std::move(bytes));
  }
}

void JobRun::CloseStdin() {
  absl::MutexLock lock(&mutex_);
  stdin_closed_ = true;
  if (mpirun_ != 0 && !exit_) services_.init->CloseStdin(mpirun_);
}

void JobRun::OutputRoom() {
  absl::MutexLock lock(&mutex_);
  if (mpirun_ != 0 && !exit_) services_.init->Resume(mpirun_);
}

absl::StatusOr<std::shared_ptr<WorkerClient>> JobRun::FindWorker(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  for (const std::shared_ptr<WorkerClient>& worker : workers_) {
    if (worker->name == name) return worker;
  }
  return absl::NotFoundError(absl::StrCat(name, " is no worker of job ", id_));
}

bool JobRun::DaemonStarting(grpc::ClientContext* context) {
  absl::MutexLock lock(&mutex_);
  if (exit_ || end_ || workers_.empty()) return false;
  daemons_.insert(context);
  return true;
}

void JobRun::DaemonStarted() {
  {
    absl::MutexLock lock(&mutex_);
    if (++daemons_started_ < workers_.size() || info_.state() != v1::LAUNCHING) return;
  }
  Phase("orted started");
  EnterState(v1::RUNNING);
}

void JobRun::DaemonEnded(grpc::ClientContext* context, const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  daemons_.erase(context);
  daemon_gone_ = true;
  if (!status.ok() && daemon_error_.empty()) daemon_error_ = std::string(status.message());
}

v1::JobInfo JobRun::Info() const {
  absl::MutexLock lock(&mutex_);
  return info_;
}

void JobRun::EnterState(v1::JobState state) {
  {
    absl::MutexLock lock(&mutex_);
    info_.set_state(state);
  }
  LogInfo(absl::StrCat("job=", id_, " state=", v1::JobState_Name(state)));
  v1::RunEvent event;
  event.set_state(state);
  events_->Send(std::move(event));
}

bool JobRun::SendStderr(std::string bytes) {
  if (bytes.empty()) return true;
  v1::RunEvent event;
  event.set_stderr(std::move(bytes));
  return events_->Send(std::move(event));
}

void JobRun::Notice(std::string text) {
  v1::RunEvent event;
  event.set_notice(std::move(text));
  events_->Send(std::move(event));
}

void JobRun::Phase(std::string name) {
  if (!spec_.verbose()) return;
  v1::RunEvent event;
  event.mutable_phase()->set_name(std::move(name));
  event.mutable_phase()->set_unix_nanos(absl::ToUnixNanos(services_.clock()));
  events_->Send(std::move(event));
}

}  // namespace mpilaunch
