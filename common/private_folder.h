// A folder that one user, or one process, owns: made, checked and locked.
#ifndef MPILAUNCH_COMMON_PRIVATE_FOLDER_H_
#define MPILAUNCH_COMMON_PRIVATE_FOLDER_H_

#include <string>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace mpilaunch {

// Makes `folder` and its parents (0700) when missing. FAILED_PRECONDITION unless it is a real
// folder, no symlink, of our own user, that nobody else may write to: whoever can write there can
// replace what we are about to run. An existing folder's mode is never changed: it may be
// somebody's /scratch.
absl::Status MakePrivateFolder(const std::string& folder);

// The same, and claims it. ALREADY_EXISTS when another live process does. The claim ends with the
// returned descriptor.
absl::StatusOr<UniqueFd> ClaimPrivateFolder(const std::string& folder);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_PRIVATE_FOLDER_H_
