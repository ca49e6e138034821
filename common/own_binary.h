// Where this program lies: its companions lie beside it.
#ifndef MPILAUNCH_COMMON_OWN_BINARY_H_
#define MPILAUNCH_COMMON_OWN_BINARY_H_

#include <filesystem>
#include <string>

namespace mpilaunch {

inline std::string OwnBinaryFolder() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
}

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_OWN_BINARY_H_
