// Identity of files: SHA-256 and size.
#ifndef MPILAUNCH_COMMON_SHA256_H_
#define MPILAUNCH_COMMON_SHA256_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mpilaunch {

struct FileDigest {
  std::string sha256;  // 64 lower-case hex digits
  uint64_t size = 0;   // bytes

  friend bool operator==(const FileDigest&, const FileDigest&) = default;
};

// Incremental. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(absl::string_view bytes);
  FileDigest Finish();  // once

 private:
  struct Context;
  std::unique_ptr<Context> context_;
  uint64_t size_ = 0;
};

// Reads `path` in bounded pieces. NOT_FOUND, PERMISSION_DENIED ... as the system says.
absl::StatusOr<FileDigest> HashFile(const std::string& path);

// INVALID_ARGUMENT unless 64 lower-case hex digits.
absl::Status ValidateSha256(absl::string_view sha256);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_SHA256_H_
