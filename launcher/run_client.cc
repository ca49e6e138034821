#include "launcher/run_client.h"

#include <grpcpp/client_context.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "blob.grpc.pb.h"
#include "common/blob_client.h"
#include "common/exit_codes.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "job.grpc.pb.h"
#include "launcher/client_input.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kAnswerTimeout = absl::Seconds(30);
constexpr absl::Duration kPushTimeout = absl::Minutes(30);
constexpr int kRounds = 3;
constexpr int kExitBrokenPipe = 128 + 13;

void PrintNotice(absl::string_view text) {
  std::fprintf(stderr, "mpilaunch: %s\n", std::string(text).c_str());
}

void PrintPhase(const std::string& name, absl::Time at, absl::Time started) {
  PrintNotice(absl::StrFormat("phase %s +%.1f ms @%d", name,
                              absl::ToDoubleMilliseconds(at - started), absl::ToUnixNanos(at)));
}

absl::Status WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::ErrnoToStatus(errno, "cannot write the program's output");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

FileDigest DigestOf(const LocalFile& file) { return {file.staged.sha256(), file.staged.size()}; }

absl::Status Bring(v1::Blob::Stub& stub, const std::vector<const LocalFile*>& files) {
  v1::FindMissingRequest request;
  for (const LocalFile* file : files) {
    v1::Digest* digest = request.add_digests();
    digest->set_sha256(file->staged.sha256());
    digest->set_size(file->staged.size());
  }
  v1::FindMissingResponse response;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kAnswerTimeout));
  MPILAUNCH_RETURN_IF_ERROR(FromGrpc(stub.FindMissing(&context, request, &response)));
  for (const v1::Digest& missing : response.missing()) {
    const auto file = std::find_if(files.begin(), files.end(), [&](const LocalFile* candidate) {
      return candidate->staged.sha256() == missing.sha256();
    });
    if (file == files.end()) return absl::InternalError("the frontend misses what nobody offered");
    MPILAUNCH_RETURN_IF_ERROR(Annotate(
        PushBlob(stub, (*file)->path, DigestOf(**file), absl::Now() + kPushTimeout, nullptr),
        absl::StrCat("bringing ", (*file)->path, " to the frontend")));
  }
  return absl::OkStatus();
}

absl::Status BringToFrontend(const std::shared_ptr<grpc::Channel>& channel, const JobFiles& files) {
  std::vector<const LocalFile*> with_bytes;
  if (!files.program.path.empty()) with_bytes.push_back(&files.program);
  for (const LocalFile& file : files.staged) {
    if (!file.staged.folder()) with_bytes.push_back(&file);
  }
  return with_bytes.empty() ? absl::OkStatus() : Bring(*v1::Blob::NewStub(channel), with_bytes);
}

// Relays the job's events to the terminal until the exit event or the end of the stream.
class EventPrinter {
 public:
  EventPrinter(bool verbose, absl::Time started) : verbose_(verbose), started_(started) {}

  // False: our output is gone, nobody wants the job.
  bool Print(const v1::RunEvent& event, ClientInput& input) {
    switch (event.kind_case()) {
      case v1::RunEvent::kStdout:
        return CheckWritten(WriteAll(STDOUT_FILENO, event.stdout()));
      case v1::RunEvent::kStderr:
        WriteAll(STDERR_FILENO, event.stderr()).IgnoreError();
        return true;
      case v1::RunEvent::kNotice:
        PrintNotice(event.notice());
        return true;
      case v1::RunEvent::kPhase:
        PrintPhase(event.phase().name(), absl::FromUnixNanos(event.phase().unix_nanos()), started_);
        return true;
      case v1::RunEvent::kJob:
        if (verbose_) PrintNotice(absl::StrCat("job ", event.job()));
        return true;
      case v1::RunEvent::kStdinCredit:
        input.AddCredit(event.stdin_credit());
        return true;
      default:
        return true;
    }
  }

  // What to exit with because of that; -1: the output was written.
  int output_error() const { return output_error_; }

 private:
  bool CheckWritten(const absl::Status& status) {
    if (status.ok()) return true;
    const bool reader_left = errno == EPIPE;  // `mpilaunch ... | head` is no error to speak of
    if (!reader_left) PrintNotice(status.message());
    output_error_ = reader_left ? kExitBrokenPipe : kExitOwnFailure;
    return false;
  }

  const bool verbose_;
  const absl::Time started_;
  int output_error_ = -1;
};

// One submission of the job, to its end. ABORTED: the frontend has dropped a file meanwhile,
// nothing has happened. Any other error: the frontend or the connection failed.
absl::StatusOr<int> SubmitOnce(v1::Job::Stub& stub, const v1::JobSpec& spec, absl::Time started) {
  grpc::ClientContext context;
  auto stream = stub.Run(&context);
  v1::RunRequest first;
  *first.mutable_spec() = spec;
  stream->Write(first);

  EventPrinter printer(spec.verbose(), started);
  v1::RunEvent event;
  bool has_exit = false;
  {
    ClientInput input([&](const v1::RunRequest& request) { return stream->Write(request); });
    while (!has_exit && stream->Read(&event)) {
      has_exit = event.kind_case() == v1::RunEvent::kExit;
      if (!printer.Print(event, input)) {
        context.TryCancel();
        break;
      }
    }
  }
  const absl::Status status = FromGrpc(stream->Finish());
  if (printer.output_error() >= 0) return printer.output_error();
  if (has_exit) {
    if (!event.exit().error().empty()) PrintNotice(event.exit().error());
    if (spec.verbose()) PrintPhase("exit", absl::Now(), started);
    return event.exit().code();
  }
  return status.ok() ? absl::UnavailableError("") : status;
}

}  // namespace

absl::StatusOr<v1::JobSpec> MakeJobSpec(const RunCommand& command, const JobFiles& files,
                                        const std::string& typed_line) {
  v1::JobSpec spec;
  spec.set_program(files.program.staged.name());
  spec.set_workers_program(files.program.path.empty());
  if (!spec.workers_program()) {
    spec.mutable_digest()->set_sha256(files.program.staged.sha256());
    spec.mutable_digest()->set_size(files.program.staged.size());
  }
  for (const LocalFile& file : files.staged) *spec.add_files() = file.staged;
  for (const std::string& argument : command.arguments) spec.add_arguments(argument);
  spec.set_ranks(command.ranks);
  for (const std::string& text : command.exports) {
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    auto* entries = spec.mutable_environment();
    auto same =
        std::find_if(entries->begin(), entries->end(),
                     [&](const v1::EnvironmentEntry& given) { return given.name() == name; });
    v1::EnvironmentEntry* entry =
        same != entries->end() ? &*same : entries->Add();  // the last one wins
    entry->set_name(name);
    const char* value = std::getenv(entry->name().c_str());
    if (equals != std::string::npos) {
      entry->set_value(text.substr(equals + 1));
    } else if (value != nullptr) {
      entry->set_value(value);
    } else {
      return absl::NotFoundError(absl::StrCat(
          "-x ", text, ": this variable is not set here (give a value: -x ", text, "=VALUE)"));
    }
  }
  for (const auto& [key, value] : command.mca) {
    v1::McaParameter* parameter = spec.add_mca();
    parameter->set_key(key);
    parameter->set_value(value);
  }
  spec.set_working_directory(command.working_directory);
  spec.set_oversubscribe(command.oversubscribe);
  spec.set_placement(command.placement);
  spec.set_here(command.here);
  spec.set_tag_output(command.tag_output);
  spec.set_wait_seconds(command.wait_seconds);
  spec.set_timeout_seconds(command.timeout_seconds);
  spec.set_verbose(command.verbose);
  spec.set_user_command(typed_line);
  return spec;
}

int RunJob(const std::shared_ptr<grpc::Channel>& channel, const JobFiles& files,
           const v1::JobSpec& spec, absl::Time started) {
  if (spec.verbose()) PrintPhase("hash", absl::Now(), started);
  auto stub = v1::Job::NewStub(channel);
  absl::Status status;
  for (int round = 0; round < kRounds; ++round) {
    if (absl::Status brought = BringToFrontend(channel, files); !brought.ok()) {
      PrintNotice(brought.message());
      return kExitOwnFailure;
    }
    const absl::StatusOr<int> code = SubmitOnce(*stub, spec, started);
    if (code.ok()) return *code;
    status = code.status();
    // Somebody else's files took the room of ours between the two.
    if (!absl::IsAborted(status)) break;
  }
  PrintNotice(absl::IsUnavailable(status)
                  ? std::string("the frontend went away while the job was there")
                  : std::string(status.message()));
  return absl::IsInvalidArgument(status) ? kExitUsage : kExitOwnFailure;
}

}  // namespace mpilaunch
