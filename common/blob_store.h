// Content-addressed files in one folder. A file is visible only whole and verified.
#ifndef MPILAUNCH_COMMON_BLOB_STORE_H_
#define MPILAUNCH_COMMON_BLOB_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/sha256.h"

namespace mpilaunch {

using HeldBlob = std::shared_ptr<const std::string>;

class BlobStore {
 public:
  // One blob on its way in: written, hashed, verified, renamed. Destroyed early it leaves nothing.
  // For one thread at a time.
  class Writer {
   public:
    virtual ~Writer() = default;
    // DATA_LOSS: more bytes than announced. RESOURCE_EXHAUSTED: disk full.
    virtual absl::Status Write(absl::string_view bytes) = 0;
    // Once, last. DATA_LOSS when size or digest differ from what was announced.
    virtual absl::Status Commit() = 0;
  };

  // Makes `folder` (0700) when missing and removes what an earlier process left half-written; what
  // an earlier boot of the machine left goes, too. ALREADY_EXISTS: another live process uses the
  // folder. Above `max_bytes` the least recently used blobs are dropped, but none that is
  // hardlinked elsewhere or held.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(std::string folder, uint64_t max_bytes);
  virtual ~BlobStore() = default;

  // All thread-safe; INVALID_ARGUMENT where `digest` is malformed. Each counts as a use of the
  // blob.

  // A blob that somebody altered through a hardlink is dropped: false.
  virtual bool Has(const FileDigest& digest) = 0;
  // Reserves the room. RESOURCE_EXHAUSTED, naming folder and sizes: the disk or the store has none.
  virtual absl::StatusOr<std::unique_ptr<Writer>> NewBlob(const FileDigest& digest) = 0;
  // Path of the blob, to read only. NOT_FOUND. It is not dropped as long as somebody has this; the
  // store must outlive it.
  virtual absl::StatusOr<HeldBlob> Hold(const FileDigest& digest) = 0;
  // Makes `target` a hardlink of the blob (a copy when on another file system), mode 0400, or 0500
  // when `executable`. Links share one mode: once executable, all are. NOT_FOUND. ALREADY_EXISTS:
  // `target`.
  virtual absl::Status Link(const FileDigest& digest, const std::string& target,
                            bool executable) = 0;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_BLOB_STORE_H_
