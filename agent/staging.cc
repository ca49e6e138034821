#include "agent/staging.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/elf_check.h"
#include "agent/shared_memory.h"
#include "common/logging.h"
#include "common/private_folder.h"
#include "common/program_path.h"
#include "common/staged_files.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

constexpr size_t kMaxJobIdDigits = 12;
constexpr size_t kMaxRememberedPrograms = 1024;

std::string Environment(const char* name) {
  const char* const value = getenv(name);
  return value == nullptr ? "" : value;
}

// A job may have taken its own rights to folders away; give us those back. Folders only: a symlink
// is looked at, not followed, and the walk does not descend into one.
void OpenUpFolders(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::permissions(folder, fs::perms::owner_all, fs::perm_options::add | fs::perm_options::nofollow,
                  error);
  fs::recursive_directory_iterator entry(folder, error);
  for (; !error && entry != fs::end(entry); entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_symlink(ignored) || !entry->is_directory(ignored)) continue;
    fs::permissions(entry->path(), fs::perms::owner_all, fs::perm_options::add, ignored);
  }
}

// libstdc++'s remove_all opens folders with O_NOFOLLOW and removes a symlink itself.
absl::Status RemoveTree(const std::string& folder) {
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  if (error == std::errc::permission_denied) {
    OpenUpFolders(folder);
    std::filesystem::remove_all(folder, error);
  }
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot remove ", folder));
}

absl::Status MakeFolder(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", folder));
}

// Open MPI's daemon hangs without end when its own files in the job's directory do not fit.
absl::Status CheckRoom(const std::string& folder) {
  constexpr uint64_t kNeeded = 16 << 20;
  struct statvfs disk {};
  if (statvfs(folder.c_str(), &disk) != 0) return absl::OkStatus();
  const uint64_t free = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (free >= kNeeded) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(free >> 10, " KiB are free for ", folder, ", Open MPI needs ", kNeeded >> 10,
                   " KiB: make room, or name a folder with more by --job-root"));
}

absl::Status CheckCanExecute(const std::string& folder) {
  struct statvfs mount {};
  if (statvfs(folder.c_str(), &mount) != 0 || (mount.f_flag & ST_NOEXEC) == 0)
    return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("no program can start in ", folder,
                   ": it is mounted noexec; mount it exec, or let the "
                   "agent use another folder (--job-root)"));
}

absl::Status CheckWorkingDirectory(const std::string& folder) {
  struct stat info {};
  const bool exists = stat(folder.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode) && access(folder.c_str(), X_OK) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("working directory ", folder,
                                                    !exists                 ? " does not exist here"
                                                    : S_ISDIR(info.st_mode) ? " may not be entered"
                                                                            : " is no directory",
                                                    " (--wdir)"));
}

// What the ranks will have as PATH.
std::string SearchPath(const v1::StageRequest& request) {
  if (!request.search_path().empty()) return request.search_path();
  const std::string own = Environment("PATH");
  return own.empty() ? kDefaultPath : own;
}

// As Open MPI's daemon looks it up: relative folders are meant from where the ranks start.
absl::Status CheckWorkersProgram(const std::string& name, const std::string& search_path,
                                 const std::filesystem::path& start) {
  std::vector<std::string> folders;
  for (absl::string_view folder : absl::StrSplit(search_path, ':', absl::SkipEmpty())) {
    folders.push_back(start / std::string(folder));
  }
  const absl::Status found = FindProgram(name, absl::StrJoin(folders, ":")).status();
  if (found.ok()) return found;
  return absl::NotFoundError(
      absl::IsPermissionDenied(found)
          ? std::string(found.message())
          : absl::StrCat(name, ": not found in the PATH here (", search_path, ")"));
}

// Makes what is missing of `folder`, a path inside `work`. Folders come into being here only, so
// that no symlink can stand for one.
absl::Status MakeFolders(const std::string& work, absl::string_view folder,
                         absl::flat_hash_set<std::string>& made) {
  for (size_t end = 0; end != folder.npos;) {
    end = folder.find('/', end + 1);
    const std::string path = absl::StrCat(work, "/", folder.substr(0, end));
    if (made.insert(path).second) MPILAUNCH_RETURN_IF_ERROR(MakeFolder(path));
  }
  return absl::OkStatus();
}

// nullptr: not among the files.
const v1::StagedFile* ProgramOf(const v1::StageRequest& request) {
  for (const v1::StagedFile& file : request.files()) {
    if (!file.folder() && file.name() == request.program()) return &file;
  }
  return nullptr;
}

absl::Status Validate(const v1::StageRequest& request) {
  MPILAUNCH_RETURN_IF_ERROR(ValidateJobId(request.job()));
  MPILAUNCH_RETURN_IF_ERROR(ValidateStagedFiles(request.files()));
  if (!request.workers_program().empty()) return ValidateFileName(request.workers_program());
  if (request.program().empty() || ProgramOf(request) != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the program ", request.program(), " is not among the files"));
}

}  // namespace

// Waits until no other call works on the job, then keeps others out.
class Staging::JobLock {
 public:
  JobLock(Staging& staging, const std::string& job) : staging_(staging), job_(job) {
    absl::MutexLock lock(&staging_.mutex_);
    staging_.mutex_.Await(absl::Condition(this, &JobLock::IsFree));
    staging_.busy_jobs_.insert(job_);
  }
  ~JobLock() {
    absl::MutexLock lock(&staging_.mutex_);
    staging_.busy_jobs_.erase(job_);
  }
  JobLock(const JobLock&) = delete;
  JobLock& operator=(const JobLock&) = delete;

 private:
  bool IsFree() const ABSL_NO_THREAD_SAFETY_ANALYSIS { return !staging_.busy_jobs_.contains(job_); }

  Staging& staging_;
  const std::string job_;
};

absl::Status ValidateJobId(absl::string_view job) {
  if (!job.empty() && job.size() <= kMaxJobIdDigits &&
      std::all_of(job.begin(), job.end(), absl::ascii_isdigit)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", absl::CHexEscape(job.substr(0, 2 * kMaxJobIdDigits)), "\" is not a job id"));
}

absl::StatusOr<std::unique_ptr<Staging>> Staging::Open(Options options) {
  if (!absl::StartsWith(options.job_root, "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--job-root: ", options.job_root, " is not an absolute path"));
  }
  MPILAUNCH_ASSIGN_OR_RETURN(UniqueFd claim, ClaimPrivateFolder(options.job_root));
  std::error_code error;
  std::filesystem::directory_iterator entry(options.job_root, error);
  for (; !error && entry != std::filesystem::end(entry); entry.increment(error)) {
    if (!ValidateJobId(entry->path().filename().string()).ok()) continue;
    const absl::Status removed = RemoveTree(entry->path());
    LogWarning(removed.ok()
                   ? absl::StrCat("removed ", entry->path().string(), " of an earlier agent")
                   : std::string(removed.message()));
  }
  return std::unique_ptr<Staging>(new Staging(std::move(options), std::move(claim)));
}

Staging::Staging(Options options, UniqueFd claim)
    : options_(std::move(options)), claim_(std::move(claim)) {}

absl::Status Staging::Stage(const v1::StageRequest& request) {
  MPILAUNCH_RETURN_IF_ERROR(Validate(request));
  const JobLock lock(*this, request.job());
  absl::Status status = Fill(request);
  if (status.ok()) status = CheckLaunch(request);
  if (status.ok()) return status;
  if (absl::Status removed = RemoveTree(JobDirectory(request.job())); !removed.ok()) {
    LogWarning(removed.message());
  }
  return status;
}

absl::Status Staging::EndJob(const std::string& job) {
  MPILAUNCH_RETURN_IF_ERROR(ValidateJobId(job));
  const JobLock lock(*this, job);
  RemoveSegments(TmpDirectory(job));
  return RemoveTree(JobDirectory(job));
}

absl::Status Staging::CheckPrograms() const { return CheckCanExecute(options_.job_root); }

std::string Staging::JobDirectory(const std::string& job) const {
  return absl::StrCat(options_.job_root, "/", job);
}

std::string Staging::WorkDirectory(const std::string& job) const {
  return absl::StrCat(JobDirectory(job), "/work");
}

std::string Staging::TmpDirectory(const std::string& job) const {
  return absl::StrCat(JobDirectory(job), "/tmp");
}

// Ids may come again when a frontend has lost its state: what is there under ours is of no job
// alive.
absl::Status Staging::Fill(const v1::StageRequest& request) {
  const std::string& job = request.job();
  MPILAUNCH_RETURN_IF_ERROR(RemoveTree(JobDirectory(job)));
  for (const std::string& folder : {JobDirectory(job), WorkDirectory(job), TmpDirectory(job)}) {
    MPILAUNCH_RETURN_IF_ERROR(MakeFolder(folder));
  }
  absl::flat_hash_set<std::string> folders;
  for (const v1::StagedFile& file : request.files()) {
    const size_t slash = file.folder() ? file.name().size() : file.name().rfind('/');
    if (slash != std::string::npos) {
      MPILAUNCH_RETURN_IF_ERROR(
          MakeFolders(WorkDirectory(job), file.name().substr(0, slash), folders));
    }
    if (!file.folder()) MPILAUNCH_RETURN_IF_ERROR(Annotate(LinkBlob(job, file), file.name()));
  }
  return absl::OkStatus();
}

absl::Status Staging::LinkBlob(const std::string& job, const v1::StagedFile& file) {
  const absl::Status status =
      options_.blobs->Link({file.sha256(), file.size()},
                           absl::StrCat(WorkDirectory(job), "/", file.name()), file.executable());
  // The frontend has just made sure that it is here: others have needed its room since.
  return absl::IsNotFound(status) ? absl::AbortedError(status.message()) : status;
}

absl::Status Staging::CheckLaunch(const v1::StageRequest& request) {
  const std::string work = WorkDirectory(request.job());
  std::string start = work;
  if (!request.working_directory().empty()) {
    // A relative one is meant from where the ranks start.
    start = std::filesystem::path(work) / request.working_directory();
    MPILAUNCH_RETURN_IF_ERROR(CheckWorkingDirectory(start));
  }
  const std::string search_path = SearchPath(request);
  if (!request.workers_program().empty()) {
    MPILAUNCH_RETURN_IF_ERROR(CheckRoom(work));
    return CheckWorkersProgram(request.workers_program(), search_path, start);
  }
  if (request.program().empty()) return absl::OkStatus();
  MPILAUNCH_RETURN_IF_ERROR(CheckCanExecute(work));
  MPILAUNCH_RETURN_IF_ERROR(CheckRoom(work));
  MPILAUNCH_ASSIGN_OR_RETURN(
      const std::string interpreter,
      CheckProgram(absl::StrCat(work, "/", request.program()), request.program(), search_path));
  if (interpreter.empty()) return absl::OkStatus();
  return CheckLibrariesOnce(request, interpreter);
}

// Only good answers are remembered: a library that is missing may be installed meanwhile. Nor is
// one of a job with other files, among which the libraries may be.
absl::Status Staging::CheckLibrariesOnce(const v1::StageRequest& request,
                                         const std::string& interpreter) {
  const std::string library_path =
      request.library_path().empty() ? Environment("LD_LIBRARY_PATH") : request.library_path();
  const std::string key = absl::StrCat(ProgramOf(request)->sha256(), ":", library_path);
  {
    absl::MutexLock lock(&mutex_);
    if (complete_programs_.contains(key)) return absl::OkStatus();
  }
  MPILAUNCH_RETURN_IF_ERROR(CheckLibraries(
      interpreter, absl::StrCat(WorkDirectory(request.job()), "/", request.program()),
      request.program(), library_path, *options_.init));
  if (request.files_size() > 1) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  if (complete_programs_.size() >= kMaxRememberedPrograms) complete_programs_.clear();
  complete_programs_.insert(key);
  return absl::OkStatus();
}

}  // namespace mpilaunch
