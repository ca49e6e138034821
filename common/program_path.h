// Looking a program up as a shell would.
#ifndef MPILAUNCH_COMMON_PROGRAM_PATH_H_
#define MPILAUNCH_COMMON_PROGRAM_PATH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mpilaunch {

// Where programs are looked for when the environment does not say.
inline constexpr char kDefaultPath[] =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// `name` with a '/' is taken as it is, a bare one is looked for in the folders of `search_path`
// (colons between). NOT_FOUND: no such file. PERMISSION_DENIED: found, but a directory or not
// executable.
absl::StatusOr<std::string> FindProgram(const std::string& name, absl::string_view search_path);

// This process's environment as "NAME=value".
std::vector<std::string> CurrentEnvironment();

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_PROGRAM_PATH_H_
