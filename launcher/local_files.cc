#include "launcher/local_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/program_path.h"
#include "common/sha256.h"
#include "common/staged_files.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

namespace fs = std::filesystem;

absl::Status Refuse(const std::string& path, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--stage ", path, ": ", why));
}

bool SameFile(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

absl::Status SetDigest(LocalFile& file) {
  MPILAUNCH_ASSIGN_OR_RETURN(FileDigest digest, HashFile(file.path));
  file.staged.set_sha256(std::move(digest.sha256));
  file.staged.set_size(digest.size);
  return absl::OkStatus();
}

// Where `typed` is to lie in the job's directory; "." is that directory itself.
fs::path PathInJob(const std::string& typed) {
  fs::path path(typed);
  const bool leads_out =
      path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end();
  path = path.lexically_normal();
  if (!path.has_filename() && path.has_parent_path()) path = path.parent_path();  // "folder/"
  return leads_out ? path.filename() : path;
}

// Walks what was typed and collects it by its name in the job's directory.
class Collector {
 public:
  explicit Collector(const LocalFile& program) : program_(program) {}

  absl::Status Add(const std::string& typed) {
    const fs::path target = PathInJob(typed);
    if (target.empty() || target == ".." || target == "/")
      return Refuse(typed,
                    "what should this be called in the job's directory? Name the files in it");
    std::vector<struct stat> folders_above;
    return Visit(typed, target == "." ? fs::path() : target, folders_above);
  }

  absl::StatusOr<std::vector<LocalFile>> Finish() {
    google::protobuf::RepeatedPtrField<v1::StagedFile> all;
    if (!program_.path.empty()) *all.Add() = program_.staged;
    std::vector<LocalFile> files;
    for (auto& [name, found] : found_) {
      if (!found.file.staged.folder()) {
        if (absl::Status status = SetDigest(found.file); !status.ok())
          return Refuse(found.file.path, status.message());
      }
      *all.Add() = found.file.staged;
      files.push_back(std::move(found.file));
    }
    if (absl::Status status = ValidateStagedFiles(all); !status.ok())
      return absl::InvalidArgumentError(absl::StrCat("--stage: ", status.message()));
    return files;
  }

 private:
  struct Found {
    LocalFile file;
    struct stat info {};
  };

  absl::Status Visit(const std::string& path, const fs::path& target,
                     std::vector<struct stat>& folders_above) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) return Refuse(path, WhyNoStat(path));
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
      return Refuse(path, "neither a file nor a folder");
    if (!target.empty()) MPILAUNCH_RETURN_IF_ERROR(Keep(path, target, info));
    if (S_ISREG(info.st_mode)) return absl::OkStatus();
    for (const struct stat& above : folders_above) {
      if (SameFile(above, info))
        return Refuse(path, "this symlink leads back to a folder that it lies in");
    }
    folders_above.push_back(info);
    MPILAUNCH_RETURN_IF_ERROR(VisitFolder(path, target, folders_above));
    folders_above.pop_back();
    return absl::OkStatus();
  }

  absl::Status VisitFolder(const std::string& path, const fs::path& target,
                           std::vector<struct stat>& folders_above) {
    std::error_code error;
    fs::directory_iterator entry(path, error);
    for (; !error && entry != fs::end(entry); entry.increment(error)) {
      MPILAUNCH_RETURN_IF_ERROR(
          Visit(entry->path(), target / entry->path().filename(), folders_above));
    }
    return error ? Refuse(path, error.message()) : absl::OkStatus();
  }

  absl::Status Keep(const std::string& path, const fs::path& target, const struct stat& info) {
    const std::string name = target;
    if (name == program_.staged.name() && !S_ISDIR(info.st_mode)) return IsProgram(path, info);
    if (auto same = found_.find(name); same != found_.end()) {
      const bool both_folders = S_ISDIR(info.st_mode) && S_ISDIR(same->second.info.st_mode);
      if (both_folders || SameFile(info, same->second.info)) return absl::OkStatus();
      return Refuse(path, absl::StrCat("both this and ", same->second.file.path, " would be ", name,
                                       " in the job's directory"));
    }
    if (static_cast<int>(found_.size()) >= kMaxStagedFiles - 1) {
      return Refuse(path,
                    absl::StrCat("more than ", kMaxStagedFiles - 1,
                                 " files and folders: pack them into an archive, or have them "
                                 "on the workers (a volume, and --wdir)"));
    }
    Found& found = found_[name];
    found.info = info;
    found.file.path = path;
    found.file.staged.set_name(name);
    found.file.staged.set_folder(S_ISDIR(info.st_mode));
    found.file.staged.set_executable(S_ISREG(info.st_mode) && (info.st_mode & 0111) != 0);
    return absl::OkStatus();
  }

  // OK: it is the very program, which is pushed anyway.
  absl::Status IsProgram(const std::string& path, const struct stat& info) const {
    const std::string& name = program_.staged.name();
    struct stat program {};
    if (program_.path.empty()) {
      return Refuse(path, absl::StrCat(name,
                                       " is the workers' own program here; to run this file, "
                                       "name it by its path: mpilaunch ",
                                       path.find('/') == path.npos ? "./" : "", path));
    }
    if (stat(program_.path.c_str(), &program) == 0 && SameFile(info, program))
      return absl::OkStatus();
    return Refuse(path,
                  absl::StrCat("the program (", program_.path, ") is called ", name, ", too"));
  }

  static std::string WhyNoStat(const std::string& path) {
    const int error = errno;
    struct stat link {};
    if (error == ENOENT && lstat(path.c_str(), &link) == 0)
      return "a symlink to a file that does not exist";
    return error == ENOENT ? "no such file or folder here" : std::strerror(error);
  }

  const LocalFile& program_;
  std::map<std::string, Found> found_;
};

}  // namespace

absl::StatusOr<LocalFile> FindLocalProgram(const std::string& typed) {
  LocalFile program;
  const bool bare = typed.find('/') == std::string::npos;
  const std::string path = bare ? absl::StrCat("./", typed) : typed;
  std::error_code ignored;
  program.staged.set_name(fs::path(path).filename());
  if (bare && (!fs::exists(path, ignored) || fs::is_directory(path, ignored))) return program;
  MPILAUNCH_ASSIGN_OR_RETURN(program.path, FindProgram(path, ""));
  program.staged.set_executable(true);
  MPILAUNCH_RETURN_IF_ERROR(SetDigest(program));
  return program;
}

absl::StatusOr<std::vector<LocalFile>> FindStagedFiles(const std::vector<std::string>& typed,
                                                       const LocalFile& program) {
  Collector collector(program);
  for (const std::string& path : typed) MPILAUNCH_RETURN_IF_ERROR(collector.Add(path));
  return collector.Finish();
}

std::vector<std::string> NotStaged(const std::vector<std::string>& arguments,
                                   const std::vector<LocalFile>& staged) {
  std::vector<std::string> files;
  for (const std::string& argument : arguments) {
    std::error_code ignored;
    if (!fs::is_regular_file(argument, ignored)) continue;
    const std::string name = PathInJob(argument);
    if (name != fs::path(argument).lexically_normal()) continue;  // it would be called otherwise
    const bool found = std::any_of(staged.begin(), staged.end(), [&](const LocalFile& file) {
      return file.staged.name() == name;
    });
    if (!found) files.push_back(argument);
  }
  return files;
}

}  // namespace mpilaunch
