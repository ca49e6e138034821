#include "launcher/job_manager.h"

#include <algorithm>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/atomic_file.h"
#include "common/staged_files.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

constexpr size_t kMaxActive = 1000;
constexpr uint64_t kReservedAtOnce = 100;
constexpr size_t kEndedRemembered = 200;
constexpr uint32_t kMaxRanks = 1 << 20;

// All that the job needs of the store, so that nothing of it is dropped while it waits in line.
absl::StatusOr<HeldBlobs> HoldFiles(BlobStore& store, const v1::JobSpec& spec) {
  HeldBlobs blobs;
  for (const v1::StagedFile& file : FilesOf(spec)) {
    if (file.folder()) continue;
    absl::StatusOr<HeldBlob> blob = store.Hold({file.sha256(), file.size()});
    if (!blob.ok()) {
      return absl::AbortedError(absl::StrCat(
          file.name(), " is not in the frontend's store any more (", blob.status().message(),
          "): other files took its room; let mpilaunchd keep more, --store-bytes"));
    }
    blobs[file.sha256()] = *std::move(blob);
  }
  return blobs;
}

bool HasNul(const std::string& text) { return text.find('\0') != std::string::npos; }

}  // namespace

absl::Status ValidateJobSpec(const v1::JobSpec& spec) {
  MPILAUNCH_RETURN_IF_ERROR(Annotate(ValidateFileName(spec.program()), "the program"));
  // mpirun would take these for something of its own; a pushed program is called ./NAME.
  if (spec.workers_program() && (spec.program()[0] == '-' || spec.program() == ":")) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", spec.program(), "\" cannot be the name of a program on the workers"));
  }
  MPILAUNCH_RETURN_IF_ERROR(ValidateStagedFiles(FilesOf(spec)));
  if (spec.ranks() > kMaxRanks)
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxRanks, " ranks"));
  for (const v1::EnvironmentEntry& entry : spec.environment()) {
    if (HasNul(entry.value()))
      return absl::InvalidArgumentError(absl::StrCat("-x ", entry.name(), " holds a NUL byte"));
  }
  for (const v1::McaParameter& parameter : spec.mca()) {
    if (HasNul(parameter.value()))
      return absl::InvalidArgumentError("a value of --mca holds a NUL byte");
  }
  for (const std::string& argument : spec.arguments()) {
    if (HasNul(argument)) return absl::InvalidArgumentError("an argument holds a NUL byte");
  }
  if (!spec.working_directory().empty() && spec.working_directory()[0] != '/') {
    return absl::InvalidArgumentError(
        "--wdir must be an absolute path: it is a folder on the workers");
  }
  return CheckMpirunSpec(spec);
}

absl::StatusOr<std::unique_ptr<JobManager>> JobManager::Open(JobServices services,
                                                             std::string counter_path) {
  uint64_t last_id = 0;
  std::string text;
  if (std::ifstream file(counter_path);
      file && !(std::getline(file, text) && absl::SimpleAtoi(text, &last_id))) {
    return absl::DataLossError(
        absl::StrCat(counter_path, " does not hold a job number: remove it to start at 1"));
  }
  return std::unique_ptr<JobManager>(
      new JobManager(std::move(services), std::move(counter_path), last_id));
}

JobManager::JobManager(JobServices services, std::string counter_path, uint64_t last_id)
    : services_(std::move(services)),
      counter_path_(std::move(counter_path)),
      last_id_(last_id),
      reserved_id_(last_id) {}

void JobManager::Stop() {
  std::vector<std::shared_ptr<JobRun>> jobs;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    for (const auto& [id, job] : active_) jobs.push_back(job);
  }
  for (const std::shared_ptr<JobRun>& job : jobs) job->Cancel();
  absl::MutexLock lock(&mutex_, absl::Condition(this, &JobManager::Idle));
}

absl::StatusOr<std::shared_ptr<JobRun>> JobManager::Submit(const v1::JobSpec& spec,
                                                           std::shared_ptr<JobEvents> events,
                                                           std::function<void()> on_end) {
  MPILAUNCH_RETURN_IF_ERROR(ValidateJobSpec(spec));
  MPILAUNCH_ASSIGN_OR_RETURN(HeldBlobs blobs, HoldFiles(*services_.blobs, spec));
  absl::MutexLock lock(&mutex_);
  if (stopping_) return absl::UnavailableError("the frontend is shutting down");
  if (active_.size() >= kMaxActive) {
    return absl::ResourceExhaustedError(
        absl::StrCat(active_.size(), " jobs are queued or running already"));
  }
  MPILAUNCH_RETURN_IF_ERROR(ReserveIds());
  const std::string id = absl::StrCat(++last_id_);
  auto job = std::make_shared<JobRun>(id, spec, std::move(blobs), services_, std::move(events));
  active_[id] = job;
  std::thread([this, id, job, on_end = std::move(on_end)] {
    job->Run();
    on_end();
    Retire(id);
  }).detach();  // Stop() waits until no job is active
  return job;
}

// A worker must never meet one number twice, so numbers are noted down before they are used: many
// at a time, as each note waits for the disk. After a restart the numbers go on behind those noted.
absl::Status JobManager::ReserveIds() {
  if (last_id_ < reserved_id_) return absl::OkStatus();
  MPILAUNCH_RETURN_IF_ERROR(
      WriteFileAtomically(counter_path_, absl::StrCat(last_id_ + kReservedAtOnce, "\n")));
  reserved_id_ = last_id_ + kReservedAtOnce;
  return absl::OkStatus();
}

void JobManager::Retire(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  auto it = active_.find(id);
  ended_.push_back(it->second->Info());
  if (ended_.size() > kEndedRemembered) ended_.pop_front();
  active_.erase(it);
}

absl::Status JobManager::Cancel(const std::string& id) {
  if (const std::shared_ptr<JobRun> job = Find(id); job != nullptr) {
    job->Cancel();
    return absl::OkStatus();
  }
  absl::MutexLock lock(&mutex_);
  for (const v1::JobInfo& info : ended_) {
    if (info.job() == id) {
      return absl::FailedPreconditionError(
          absl::StrCat("job ", id, " has ended (", v1::JobState_Name(info.state()), ")"));
    }
  }
  return absl::NotFoundError(absl::StrCat("no job ", id, " (mpilaunch jobs lists them)"));
}

std::shared_ptr<JobRun> JobManager::Find(const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  auto it = active_.find(id);
  return it == active_.end() ? nullptr : it->second;
}

std::vector<v1::JobInfo> JobManager::List() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::JobInfo> jobs(ended_.begin(), ended_.end());
  for (const auto& [id, job] : active_) jobs.push_back(job->Info());
  std::sort(jobs.begin(), jobs.end(), [](const v1::JobInfo& a, const v1::JobInfo& b) {
    return a.job().size() != b.job().size() ? a.job().size() < b.job().size() : a.job() < b.job();
  });
  return jobs;
}

}  // namespace mpilaunch
