// Small files that are either whole or not there.
#ifndef MPILAUNCH_COMMON_ATOMIC_FILE_H_
#define MPILAUNCH_COMMON_ATOMIC_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mpilaunch {

// The whole file. Errors as the system says (NOT_FOUND ...), with the path; INVALID_ARGUMENT when
// it is not a regular file or has more than `max_bytes`.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t max_bytes);

// Writes beside `path` (mode 0600), syncs, renames, syncs the folder: a reader or a crash at any
// moment finds the old file or the new one.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_ATOMIC_FILE_H_
