#include "launcher/stager.h"

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/blob_client.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kAnswerTimeout = absl::Seconds(30);
constexpr absl::Duration kPushTimeout = absl::Minutes(30);
constexpr int kRounds = 3;
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

// The files with bytes, each content once.
using Contents = std::map<std::string, const v1::StagedFile*>;

Contents ContentsOf(const v1::StageRequest& request) {
  Contents contents;
  for (const v1::StagedFile& file : request.files()) {
    if (!file.folder()) contents.emplace(file.sha256(), &file);
  }
  return contents;
}

// What one worker lacks.
struct Lack {
  std::shared_ptr<WorkerClient> worker;
  std::vector<const v1::StagedFile*> files;
  uint64_t bytes = 0;
};

absl::StatusOr<std::vector<Lack>> FindLacks(const WorkerClients& workers,
                                            const Contents& contents) {
  v1::FindMissingRequest request;
  for (const auto& [sha256, file] : contents) {
    v1::Digest* wanted = request.add_digests();
    wanted->set_sha256(sha256);
    wanted->set_size(file->size());
  }
  auto replies = CallAll<v1::FindMissingResponse>(
      workers, absl::Now() + kAnswerTimeout,
      [&](WorkerClient& worker, grpc::ClientContext* context, v1::FindMissingResponse* response,
          auto done) {
        worker.blob->async()->FindMissing(context, &request, response, std::move(done));
      });
  MPILAUNCH_RETURN_IF_ERROR(Combine(replies));
  std::vector<Lack> lacks;
  for (size_t i = 0; i < workers.size(); ++i) {
    Lack lack{workers[i], {}, 0};
    for (const v1::Digest& missing : replies[i].response.missing()) {
      const auto file = contents.find(missing.sha256());
      if (file == contents.end()) continue;
      lack.files.push_back(file->second);
      lack.bytes += file->second->size();
    }
    if (!lack.files.empty()) lacks.push_back(std::move(lack));
  }
  return lacks;
}

std::string Describe(const Lack& lack) {
  return absl::StrCat("pushing ",
                      lack.files.size() == 1 ? lack.files.front()->name()
                                             : absl::StrCat(lack.files.size(), " files"),
                      " (", lack.bytes, " bytes) to ");
}

absl::Status Push(const Lack& lack, const StageJob& job) {
  for (const v1::StagedFile* file : lack.files) {
    const FileDigest digest = {file->sha256(), file->size()};
    MPILAUNCH_RETURN_IF_ERROR(
        Annotate(PushBlob(*lack.worker->blob, *job.blobs.at(digest.sha256), digest,
                          absl::Now() + kPushTimeout, [&](uint64_t) { return !job.cancelled(); }),
                 absl::StrCat(file->name(), " (", file->size(), " bytes)")));
  }
  return absl::OkStatus();
}

absl::Status PushWhatIsMissing(const WorkerClients& workers, const StageJob& job) {
  const Contents contents = ContentsOf(job.request);
  if (contents.empty()) return absl::OkStatus();
  MPILAUNCH_ASSIGN_OR_RETURN(const std::vector<Lack> lacks, FindLacks(workers, contents));
  for (size_t i = 0; i < lacks.size(); ++i) {
    const std::string text = Describe(lacks[i]);
    if (lacks[i].bytes >= kWorthTelling) {
      job.on_progress(absl::StrCat(text, lacks[i].worker->name, ", ", i + 1, " of ", lacks.size()));
    }
    MPILAUNCH_RETURN_IF_ERROR(
        Annotate(Push(lacks[i], job), absl::StrCat(text, "worker ", lacks[i].worker->name)));
  }
  return absl::OkStatus();
}

absl::Status Stage(const WorkerClients& workers, const StageJob& job) {
  return Combine(CallAll<v1::StageResponse>(workers, absl::Now() + kAnswerTimeout,
                                            [&](WorkerClient& worker, grpc::ClientContext* context,
                                                v1::StageResponse* response, auto done) {
                                              worker.process->async()->Stage(
                                                  context, &job.request, response, std::move(done));
                                            }));
}

}  // namespace

absl::Status StageOnWorkers(const WorkerClients& workers, const StageJob& job) {
  absl::Status status;
  for (int round = 0; round < kRounds; ++round) {
    MPILAUNCH_RETURN_IF_ERROR(PushWhatIsMissing(workers, job));
    status = Stage(workers, job);
    // Between the two a worker may drop what it had, to make room for another job's files.
    if (!absl::IsAborted(status)) return status;
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      status.message(), "\n(pushed ", kRounds,
      " times, and each time dropped for other files: let the worker keep more, --store-bytes)"));
}

}  // namespace mpilaunch
