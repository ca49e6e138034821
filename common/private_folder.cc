#include "common/private_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

// Parents that are missing become private, too: nobody else has business below them.
absl::Status MakeFolder(const std::filesystem::path& folder) {
  if (mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  const std::filesystem::path parent = folder.parent_path();
  if (errno == ENOENT && !parent.empty() && parent != folder) {
    MPILAUNCH_RETURN_IF_ERROR(MakeFolder(parent));
    if (mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", folder.string()));
}

absl::Status CheckOwner(const std::string& folder, int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at ", folder));
  if (info.st_uid != geteuid()) {
    return absl::FailedPreconditionError(absl::StrCat(folder, " belongs to uid ", info.st_uid,
                                                      ", this process runs as uid ", geteuid(),
                                                      "; name another folder"));
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, " can be written to by other users; name a folder below it, e.g. ",
                     folder, "/mpilaunch"));
  }
  return absl::OkStatus();
}

// Opened and checked.
absl::StatusOr<UniqueFd> OpenPrivateFolder(const std::string& folder) {
  MPILAUNCH_RETURN_IF_ERROR(MakeFolder(folder));
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid() && (errno == ELOOP || errno == ENOTDIR)) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, " must be a real folder, not a symlink or a file"));
  }
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", folder));
  MPILAUNCH_RETURN_IF_ERROR(CheckOwner(folder, fd.get()));
  return fd;
}

}  // namespace

absl::Status MakePrivateFolder(const std::string& folder) {
  return OpenPrivateFolder(folder).status();
}

absl::StatusOr<UniqueFd> ClaimPrivateFolder(const std::string& folder) {
  MPILAUNCH_ASSIGN_OR_RETURN(UniqueFd fd, OpenPrivateFolder(folder));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot lock ", folder));
    return absl::AlreadyExistsError(absl::StrCat("another process of mpilaunch uses ", folder,
                                                 "; stop it, or name another folder"));
  }
  return fd;
}

}  // namespace mpilaunch
