#include "common/staged_files.h"

#include <climits>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/sha256.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

constexpr size_t kMaxPathBytes = 1024;  // leaves room for the job root within PATH_MAX

}  // namespace

absl::Status ValidateFileName(absl::string_view name) {
  if (!name.empty() && name != "." && name != ".." && name.size() <= NAME_MAX &&
      !absl::StrContains(name, '/') && !absl::StrContains(name, '\0')) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("\"", absl::CHexEscape(name.substr(0, NAME_MAX)),
                                                 "\" is not a plain file name"));
}

absl::Status ValidateRelativePath(absl::string_view path) {
  bool good = path.size() <= kMaxPathBytes;
  for (absl::string_view component : absl::StrSplit(path, '/')) {
    good = good && ValidateFileName(component).ok();
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", absl::CHexEscape(path.substr(0, kMaxPathBytes)),
      "\" is not a path inside the job's directory: not empty, not absolute, no empty, "
      "\".\" or \"..\" components, at most ",
      kMaxPathBytes, " bytes"));
}

absl::Status ValidateStagedFiles(const google::protobuf::RepeatedPtrField<v1::StagedFile>& files) {
  if (files.size() > kMaxStagedFiles)
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxStagedFiles, " files"));
  size_t name_bytes = 0;
  absl::flat_hash_map<absl::string_view, const v1::StagedFile*> by_name;
  for (const v1::StagedFile& file : files) {
    MPILAUNCH_RETURN_IF_ERROR(ValidateRelativePath(file.name()));
    if (!file.folder())
      MPILAUNCH_RETURN_IF_ERROR(Annotate(ValidateSha256(file.sha256()), file.name()));
    name_bytes += file.name().size();
    if (!by_name.emplace(file.name(), &file).second)
      return absl::InvalidArgumentError(absl::StrCat("two files are called ", file.name()));
  }
  if (name_bytes > kMaxStagedNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the files' names are ", name_bytes,
                                                   " bytes, more than ", kMaxStagedNameBytes));
  }
  for (const v1::StagedFile& file : files) {
    const absl::string_view name = file.name();
    for (size_t slash = name.find('/'); slash != name.npos; slash = name.find('/', slash + 1)) {
      const auto above = by_name.find(name.substr(0, slash));
      if (above == by_name.end() || above->second->folder()) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(above->first, " is a file, and ", name, " would lie in it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace mpilaunch
