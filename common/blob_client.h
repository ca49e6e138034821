// Sends one file to a Blob service.
#ifndef MPILAUNCH_COMMON_BLOB_CLIENT_H_
#define MPILAUNCH_COMMON_BLOB_CLIENT_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "blob.grpc.pb.h"
#include "common/sha256.h"

namespace mpilaunch {

// Blocks until the receiver has verified the file at `path`, or `deadline`. `progress(bytes sent)`
// runs on this thread before each chunk, may be empty, and ends the push by returning false:
// CANCELLED. DATA_LOSS: the file is no longer what `digest` says. Else the receiver's error, or the
// file's.
absl::Status PushBlob(v1::Blob::StubInterface& stub, const std::string& path,
                      const FileDigest& digest, absl::Time deadline,
                      const std::function<bool(uint64_t)>& progress);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_BLOB_CLIENT_H_
