#include "common/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

namespace mpilaunch {
namespace {

absl::Status SystemError(absl::string_view what, absl::string_view path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path));
}

absl::Status WriteAll(int fd, absl::string_view contents, const std::string& path) {
  while (!contents.empty()) {
    const ssize_t written = write(fd, contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError("write", path);
    contents.remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status SyncFolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder =
      slash == std::string::npos ? "." : (slash == 0 ? "/" : path.substr(0, slash));
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) return SystemError("sync the folder", folder);
  return absl::OkStatus();
}

absl::Status FillAndRename(UniqueFd fd, const std::string& temporary, const std::string& path,
                           absl::string_view contents) {
  MPILAUNCH_RETURN_IF_ERROR(WriteAll(fd.get(), contents, temporary));
  if (fsync(fd.get()) != 0) return SystemError("sync", temporary);
  if (rename(temporary.c_str(), path.c_str()) != 0) return SystemError("rename to", path);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t max_bytes) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return SystemError("open", path);
  struct stat facts;
  if (fstat(fd.get(), &facts) != 0) return SystemError("look at", path);
  if (!S_ISREG(facts.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, S_ISDIR(facts.st_mode) ? " is a folder; name the file in it" : " is not a file"));
  }
  std::string contents(max_bytes + 1, '\0');
  size_t size = 0;
  while (size < contents.size()) {
    const ssize_t got = read(fd.get(), contents.data() + size, contents.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError("read", path);
    if (got == 0) break;
    size += got;
  }
  if (size > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is too large: more than ", max_bytes, " bytes"));
  }
  contents.resize(size);
  return contents;
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents) {
  std::string temporary = absl::StrCat(path, ".XXXXXX");
  UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));  // 0600 whatever the umask
  if (!fd.valid()) return SystemError("make a file beside", path);
  if (absl::Status status = FillAndRename(std::move(fd), temporary, path, contents); !status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return SyncFolderOf(path);
}

}  // namespace mpilaunch
