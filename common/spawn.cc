#include "common/spawn.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/program_path.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

absl::string_view PathOf(const std::vector<std::string>& environment) {
  for (const std::string& entry : environment) {
    absl::string_view value = entry;
    if (absl::ConsumePrefix(&value, "PATH=")) return value;
  }
  return kDefaultPath;
}

absl::StatusOr<std::string> ResolveProgram(const SpawnRequest& request) {
  if (request.argv.empty()) return absl::InvalidArgumentError("no program to start");
  const std::string& name = request.argv[0];
  if (absl::StrContains(name, '/')) return name;
  MPILAUNCH_ASSIGN_OR_RETURN(std::string path, FindProgram(name, PathOf(request.environment)));
  // It was found from our own directory, the child starts in another one.
  return std::filesystem::absolute(path).string();
}

// exec says ENOENT for a missing directory, program or interpreter alike; people need to know
// which.
absl::Status CheckWorkingDirectory(const std::string& folder) {
  if (folder.empty()) return absl::OkStatus();
  struct stat info;
  int error = stat(folder.c_str(), &info) != 0 ? errno : 0;
  if (error == 0 && !S_ISDIR(info.st_mode)) error = ENOTDIR;
  if (error == 0 && access(folder.c_str(), X_OK) != 0) error = errno;
  if (error == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("working directory ", folder, ": ", strerror(error)));
}

absl::Status ExplainExecError(int error, const std::string& program,
                              const std::string& working_directory) {
  const std::string path =
      absl::StartsWith(program, "/") ? program : absl::StrCat(working_directory, "/", program);
  switch (error) {
    case ENOENT:
      if (access(working_directory.empty() ? program.c_str() : path.c_str(), F_OK) == 0) {
        return absl::NotFoundError(
            absl::StrCat(program, ": its interpreter (#! line or dynamic loader) is missing"));
      }
      return absl::NotFoundError(absl::StrCat(program, ": no such file"));
    case ENOTDIR:
      return absl::NotFoundError(absl::StrCat(program, ": no such file"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat(program, ": not executable"));
    case ENOEXEC:
    case ELIBBAD:
      return absl::FailedPreconditionError(absl::StrCat(
          program,
          ": not a program for this machine (other architecture, or a script without #! line)"));
    default:
      return absl::ErrnoToStatus(error, absl::StrCat("starting ", program));
  }
}

struct Pipe {
  UniqueFd ours;
  UniqueFd theirs;
};

// Only our end is non-blocking: programs expect a stdio that blocks.
absl::StatusOr<Pipe> MakePipe(bool child_reads) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe2");
  Pipe made = {.ours = UniqueFd(fds[child_reads ? 1 : 0]),
               .theirs = UniqueFd(fds[child_reads ? 0 : 1])};
  if (fcntl(made.ours.get(), F_SETFL, O_NONBLOCK) != 0) return absl::ErrnoToStatus(errno, "fcntl");
  return made;
}

// posix_spawn's two argument objects. Their setters fail only for lack of memory or a bad fd.
class SpawnActions {
 public:
  SpawnActions() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    sigset_t signals;
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes_, &signals);
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes_, &signals);
  }
  ~SpawnActions() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;

  // Makes `fd` of the child what `mode` says; the pipe's end to keep comes back in `ours`.
  absl::Status SetStdio(int fd, Stdio mode, UniqueFd& ours) {
    if (mode == Stdio::kInherit) return absl::OkStatus();
    if (mode == Stdio::kNull) {
      posix_spawn_file_actions_addopen(&actions_, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY,
                                       0);
      return absl::OkStatus();
    }
    MPILAUNCH_ASSIGN_OR_RETURN(Pipe made, MakePipe(/*child_reads=*/fd == 0));
    posix_spawn_file_actions_adddup2(&actions_, made.theirs.get(), fd);
    ours = std::move(made.ours);
    child_ends_.push_back(std::move(made.theirs));
    return absl::OkStatus();
  }

  void SetDirectory(const std::string& folder) {
    if (!folder.empty()) posix_spawn_file_actions_addchdir_np(&actions_, folder.c_str());
  }

  // Returns errno, 0 when the program runs.
  int Spawn(const std::string& path, const SpawnRequest& request, pid_t& pid) {
    posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);
    return posix_spawn(&pid, path.c_str(), &actions_, &attributes_, Pointers(request.argv).data(),
                       Pointers(request.environment).data());
  }

 private:
  static std::vector<char*> Pointers(const std::vector<std::string>& strings) {
    std::vector<char*> pointers;
    pointers.reserve(strings.size() + 1);
    for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
    pointers.push_back(nullptr);
    return pointers;
  }

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
  std::vector<UniqueFd> child_ends_;
};

}  // namespace

absl::StatusOr<SpawnedProcess> SpawnProcess(const SpawnRequest& request) {
  MPILAUNCH_ASSIGN_OR_RETURN(const std::string program, ResolveProgram(request));
  MPILAUNCH_RETURN_IF_ERROR(CheckWorkingDirectory(request.working_directory));
  SpawnedProcess process;
  SpawnActions actions;
  MPILAUNCH_RETURN_IF_ERROR(actions.SetStdio(STDIN_FILENO, request.stdin_mode, process.stdin_fd));
  if (request.stdin_in_packets && process.stdin_fd.valid() &&
      fcntl(process.stdin_fd.get(), F_SETFL, O_NONBLOCK | O_DIRECT) != 0) {
    return absl::ErrnoToStatus(errno, "fcntl O_DIRECT");
  }
  MPILAUNCH_RETURN_IF_ERROR(
      actions.SetStdio(STDOUT_FILENO, request.output_mode, process.stdout_fd));
  MPILAUNCH_RETURN_IF_ERROR(
      actions.SetStdio(STDERR_FILENO, request.output_mode, process.stderr_fd));
  actions.SetDirectory(request.working_directory);
  if (const int error = actions.Spawn(program, request, process.pid); error != 0) {
    return ExplainExecError(error, program, request.working_directory);
  }
  return process;
}

}  // namespace mpilaunch
