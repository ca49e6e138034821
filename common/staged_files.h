// Names of the files in a job's working directory, as client, frontend and agent check them.
#ifndef MPILAUNCH_COMMON_STAGED_FILES_H_
#define MPILAUNCH_COMMON_STAGED_FILES_H_

#include <google/protobuf/repeated_ptr_field.h>

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "blob.pb.h"

namespace mpilaunch {

// With them a list of files fits well into one message of gRPC's default size, 4 MiB.
inline constexpr int kMaxStagedFiles = 4096;
inline constexpr size_t kMaxStagedNameBytes = 1 << 20;  // of all names together

// INVALID_ARGUMENT unless one component of a path: not empty, no '/', not "." or "..", no NUL, at
// most 255 bytes.
absl::Status ValidateFileName(absl::string_view name);

// INVALID_ARGUMENT unless a path that cannot lead out of the folder it is put into: components as
// above with one '/' between, at most 1024 bytes. Says nothing about symlinks, which are the
// business of whoever makes the files.
absl::Status ValidateRelativePath(absl::string_view path);

// INVALID_ARGUMENT unless every name is such a path and every digest well-formed, no name is there
// twice, none is a file and a folder at once, and there are not too many.
absl::Status ValidateStagedFiles(const google::protobuf::RepeatedPtrField<v1::StagedFile>& files);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_STAGED_FILES_H_
