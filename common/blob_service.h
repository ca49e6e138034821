// The Blob service on top of a store: agents serve it to the frontend, the frontend to its clients.
#ifndef MPILAUNCH_COMMON_BLOB_SERVICE_H_
#define MPILAUNCH_COMMON_BLOB_SERVICE_H_

#include <grpcpp/security/auth_context.h>
#include <grpcpp/server_context.h>

#include <functional>

#include "absl/status/status.h"
#include "blob.grpc.pb.h"
#include "common/blob_store.h"

namespace mpilaunch {

// Sync API: a push is a straight loop, read, hash, write, and holds one of the server's threads.
class BlobService final : public v1::Blob::Service {
 public:
  struct Options {
    BlobStore* blobs = nullptr;  // outlives the server
    // Who may call. Any thread; the error goes to the caller.
    std::function<absl::Status(const grpc::AuthContext&)> authorise;
  };
  explicit BlobService(Options options);

  grpc::Status FindMissing(grpc::ServerContext* context, const v1::FindMissingRequest* request,
                           v1::FindMissingResponse* response) override;
  grpc::Status Push(grpc::ServerContext* context, grpc::ServerReader<v1::PushRequest>* reader,
                    v1::PushResponse* response) override;

 private:
  const Options options_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_BLOB_SERVICE_H_
