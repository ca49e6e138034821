// What a job takes along from this machine: the program and what --stage names.
#ifndef MPILAUNCH_LAUNCHER_LOCAL_FILES_H_
#define MPILAUNCH_LAUNCHER_LOCAL_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "blob.pb.h"

namespace mpilaunch {

// Where it lies here, and what it is to be in the job's directory.
struct LocalFile {
  std::string path;
  v1::StagedFile staged;
};

// A bare name that is no file in the current folder is a program of the workers: `path` is empty
// then and only the name is set. NOT_FOUND, PERMISSION_DENIED (a folder, not executable).
absl::StatusOr<LocalFile> FindLocalProgram(const std::string& typed);

// The files that were typed after --stage, and what is in the folders among them. Each lies under
// the path as typed, or under its last component where that is absolute or has a ".."; what is the
// program anyway is left out. Symlinks are followed. INVALID_ARGUMENT, for people: missing, not
// readable, neither file nor folder, two of one name, too many.
absl::StatusOr<std::vector<LocalFile>> FindStagedFiles(const std::vector<std::string>& typed,
                                                       const LocalFile& program);

// Those of `arguments` that name a file here which the ranks do not find under this name: what
// somebody who knows mpirun on one machine takes for granted.
std::vector<std::string> NotStaged(const std::vector<std::string>& arguments,
                                   const std::vector<LocalFile>& staged);

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_LOCAL_FILES_H_
