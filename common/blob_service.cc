#include "common/blob_service.h"

#include <memory>
#include <utility>

#include "common/grpc_status.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

FileDigest ToDigest(const v1::Digest& digest) { return {digest.sha256(), digest.size()}; }

absl::Status FindMissingIn(BlobStore& blobs, const v1::FindMissingRequest& request,
                           v1::FindMissingResponse& response) {
  for (const v1::Digest& digest : request.digests()) {
    MPILAUNCH_RETURN_IF_ERROR(ValidateSha256(digest.sha256()));
    if (!blobs.Has(ToDigest(digest))) *response.add_missing() = digest;
  }
  return absl::OkStatus();
}

absl::Status Receive(BlobStore& blobs, grpc::ServerReader<v1::PushRequest>& reader) {
  v1::PushRequest request;
  if (!reader.Read(&request) || !request.has_header()) {
    return absl::InvalidArgumentError("a push begins with its header");
  }
  const FileDigest digest = ToDigest(request.header());
  // Somebody else was quicker: the answer spares the caller the rest.
  if (blobs.Has(digest)) return absl::OkStatus();
  MPILAUNCH_ASSIGN_OR_RETURN(const std::unique_ptr<BlobStore::Writer> writer,
                             blobs.NewBlob(digest));
  while (reader.Read(&request)) {
    if (!request.has_chunk())
      return absl::InvalidArgumentError("after the header only chunks are expected");
    MPILAUNCH_RETURN_IF_ERROR(writer->Write(request.chunk()));
  }
  // The end of a broken stream looks the same as that of a whole one; Commit tells them apart.
  return writer->Commit();
}

}  // namespace

BlobService::BlobService(Options options) : options_(std::move(options)) {}

grpc::Status BlobService::FindMissing(grpc::ServerContext* context,
                                      const v1::FindMissingRequest* request,
                                      v1::FindMissingResponse* response) {
  if (absl::Status status = options_.authorise(*context->auth_context()); !status.ok())
    return ToGrpc(status);
  return ToGrpc(FindMissingIn(*options_.blobs, *request, *response));
}

grpc::Status BlobService::Push(grpc::ServerContext* context,
                               grpc::ServerReader<v1::PushRequest>* reader, v1::PushResponse*) {
  if (absl::Status status = options_.authorise(*context->auth_context()); !status.ok())
    return ToGrpc(status);
  return ToGrpc(Receive(*options_.blobs, *reader));
}

}  // namespace mpilaunch
