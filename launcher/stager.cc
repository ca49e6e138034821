#include "launcher/stager.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/blob_client.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kAnswerTimeout = absl::Seconds(30);
constexpr absl::Duration kPushTimeout = absl::Minutes(30);
constexpr uint64_t kWorthTelling = 16 << 20;  // below that it takes less time than to read about it

// The code of the first failure, the text of all.
template <typename Response>
absl::Status Combine(const std::vector<WorkerReply<Response>>& replies) {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::vector<std::string> messages;
  for (const WorkerReply<Response>& reply : replies) {
    if (reply.status.ok()) continue;
    if (messages.empty()) code = reply.status.code();
    messages.emplace_back(reply.status.message());
  }
  return absl::Status(code, absl::StrJoin(messages, "\n"));
}

absl::StatusOr<WorkerClients> FindThoseMissing(const WorkerClients& workers,
                                               const FileDigest& digest) {
  v1::FindMissingRequest request;
  v1::Digest* wanted = request.add_digests();
  wanted->set_sha256(digest.sha256);
  wanted->set_size(digest.size);
  auto replies = CallAll<v1::FindMissingResponse>(
      workers, absl::Now() + kAnswerTimeout,
      [&](WorkerClient& worker, grpc::ClientContext* context, v1::FindMissingResponse* response,
          auto done) {
        worker.blob->async()->FindMissing(context, &request, response, std::move(done));
      });
  MPILAUNCH_RETURN_IF_ERROR(Combine(replies));
  WorkerClients missing;
  for (size_t i = 0; i < workers.size(); ++i) {
    if (replies[i].response.missing_size() > 0) missing.push_back(workers[i]);
  }
  return missing;
}

absl::Status PushTo(WorkerClient& worker, const StageJob& job) {
  const std::string text =
      absl::StrCat("pushing ", job.request.program(), " (", job.digest.size, " bytes) to ");
  const absl::Status status =
      PushBlob(*worker.blob, job.blob_path, job.digest, absl::Now() + kPushTimeout,
               [&](uint64_t) { return !job.cancelled(); });
  return Annotate(status, absl::StrCat(text, "worker ", worker.name));
}

}  // namespace

absl::Status StageOnWorkers(const WorkerClients& workers, const StageJob& job) {
  MPILAUNCH_ASSIGN_OR_RETURN(const WorkerClients missing, FindThoseMissing(workers, job.digest));
  for (size_t i = 0; i < missing.size(); ++i) {
    if (job.digest.size >= kWorthTelling)
      job.on_progress(absl::StrCat("pushing ", job.request.program(), " (", job.digest.size,
                                   " bytes) to ", missing[i]->name, ", ", i + 1, " of ",
                                   missing.size()));
    MPILAUNCH_RETURN_IF_ERROR(PushTo(*missing[i], job));
  }
  return Combine(CallAll<v1::StageResponse>(workers, absl::Now() + kAnswerTimeout,
                                            [&](WorkerClient& worker, grpc::ClientContext* context,
                                                v1::StageResponse* response, auto done) {
                                              worker.process->async()->Stage(
                                                  context, &job.request, response, std::move(done));
                                            }));
}

}  // namespace mpilaunch
