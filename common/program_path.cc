#include "common/program_path.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace mpilaunch {
namespace {

absl::Status CheckExecutable(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, path);
  if (S_ISDIR(info.st_mode))
    return absl::PermissionDeniedError(absl::StrCat(path, " is a directory"));
  if (!S_ISREG(info.st_mode))
    return absl::PermissionDeniedError(absl::StrCat(path, " is not a regular file"));
  if (access(path.c_str(), X_OK) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat(path, " is not executable (a program: chmod +x ", path,
                     "; a source file: compile it, or --stage it for its interpreter)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> FindProgram(const std::string& name, absl::string_view search_path) {
  if (name.empty()) return absl::NotFoundError("no program named");
  if (name.find('/') != std::string::npos) {
    if (absl::Status status = CheckExecutable(name); !status.ok()) return status;
    return name;
  }
  absl::Status found_but_unusable = absl::OkStatus();
  for (absl::string_view folder : absl::StrSplit(search_path, ':')) {
    std::string path = absl::StrCat(folder.empty() ? "." : folder, "/", name);
    const absl::Status status = CheckExecutable(path);
    if (status.ok()) return path;
    if (absl::IsPermissionDenied(status) && found_but_unusable.ok()) found_but_unusable = status;
  }
  if (!found_but_unusable.ok()) return found_but_unusable;
  return absl::NotFoundError(absl::StrCat(name, ": not found in ", search_path));
}

std::vector<std::string> CurrentEnvironment() {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) entries.emplace_back(*entry);
  return entries;
}

}  // namespace mpilaunch
