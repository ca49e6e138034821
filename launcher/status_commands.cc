#include "launcher/status_commands.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "job.grpc.pb.h"

namespace mpilaunch {
namespace {

// A row of a table is one line; --json has all of it.
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

constexpr absl::Duration kAnswerTimeout = absl::Seconds(10);

using Row = std::vector<std::string>;

std::string FormatTable(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string table;
  for (const Row& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i)
      absl::StrAppendFormat(&table, "%-*s  ", widths[i], row[i]);
    absl::StrAppend(&table, row.back(), "\n");
  }
  return table;
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }

std::string FormatBytes(uint64_t bytes) {
  return bytes >= (1u << 30) ? absl::StrFormat("%.1f GiB", static_cast<double>(bytes) / (1 << 30))
                             : absl::StrFormat("%d MiB", bytes >> 20);
}

std::string FormatBlocks(const v1::JobInfo& job) {
  return absl::StrJoin(job.blocks(), " ", [](std::string* out, const v1::RankBlock& block) {
    absl::StrAppend(out, block.worker(), ":", block.ranks());
  });
}

// How long it waited or ran.
absl::Duration Age(const v1::JobInfo& job, absl::Time now) {
  const int64_t from = job.started_unix_ms() != 0 ? job.started_unix_ms() : job.submitted_unix_ms();
  const absl::Time to = job.ended_unix_ms() != 0 ? absl::FromUnixMillis(job.ended_unix_ms()) : now;
  return to - absl::FromUnixMillis(from);
}

// Text from a worker or a user need not be UTF-8; a JSON document must be.
std::string Dump(const nlohmann::ordered_json& document) {
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

template <typename Call>
absl::Status Ask(Call call) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kAnswerTimeout));
  return FromGrpc(call(&context));
}

absl::Status Print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "cannot write to the standard output");
}

}  // namespace

std::string FormatWorkers(const v1::WorkersResponse& workers) {
  if (workers.workers().empty()) return "no worker is registered\n";
  std::vector<Row> rows = {{"WORKER", "STATE", "USED", "SLOTS", "WHY", "ADDRESS", "ARCH", "GLIBC",
                            "OPEN MPI", "/DEV/SHM"}};
  for (const v1::WorkerInfo& worker : workers.workers()) {
    const v1::WorkerFacts& facts = worker.facts();
    rows.push_back({worker.name(), v1::WorkerState_Name(worker.state()),
                    absl::StrCat(worker.slots_used()), absl::StrCat(facts.slots()),
                    OrDash(facts.slots_reason()), OrDash(facts.address()),
                    OrDash(facts.architecture()), OrDash(facts.glibc_version()),
                    OrDash(facts.mpi_version()), FormatBytes(facts.shm_bytes())});
  }
  std::string text = FormatTable(rows);
  for (const v1::WorkerInfo& worker : workers.workers()) {
    if (worker.state() == v1::LOST) continue;
    for (const std::string& warning : worker.facts().warnings())
      absl::StrAppend(&text, worker.name(), ": ", warning, "\n");
  }
  return text;
}

std::string FormatWorkersJson(const v1::WorkersResponse& workers) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const v1::WorkerInfo& worker : workers.workers()) {
    const v1::WorkerFacts& facts = worker.facts();
    list.push_back(
        {{"name", worker.name()},
         {"state", v1::WorkerState_Name(worker.state())},
         {"slots", facts.slots()},
         {"slots_used", worker.slots_used()},
         {"slots_reason", facts.slots_reason()},
         {"host_name", facts.host_name()},
         {"address", facts.address()},
         {"network", facts.network()},
         {"architecture", facts.architecture()},
         {"glibc_version", facts.glibc_version()},
         {"mpi_version", facts.mpi_version()},
         {"shm_bytes", facts.shm_bytes()},
         {"cma", facts.cma()},
         {"fabric", facts.fabric()},
         {"pci_locality", facts.pci_locality()},
         {"agent_version", facts.agent_version()},
         {"warnings", std::vector<std::string>(facts.warnings().begin(), facts.warnings().end())},
         {"since_unix_ms", worker.since_unix_ms()}});
  }
  return Dump({{"workers", list}});
}

std::string FormatJobs(const v1::ListJobsResponse& jobs, absl::Time now) {
  if (jobs.jobs().empty()) return "no job yet\n";
  std::vector<Row> rows = {{"JOB", "STATE", "RANKS", "TIME", "EXIT", "WORKERS", "COMMAND"}};
  for (const v1::JobInfo& job : jobs.jobs()) {
    const bool ended = job.ended_unix_ms() != 0;
    rows.push_back({job.job(), v1::JobState_Name(job.state()), absl::StrCat(job.ranks()),
                    absl::FormatDuration(absl::Trunc(Age(job, now), absl::Milliseconds(100))),
                    ended ? absl::StrCat(job.exit_code()) : "-", OrDash(FormatBlocks(job)),
                    job.error().empty()
                        ? job.command()
                        : absl::StrCat(job.command(), "  (", FirstLine(job.error()), ")")});
  }
  return FormatTable(rows);
}

std::string FormatJobsJson(const v1::ListJobsResponse& jobs) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const v1::JobInfo& job : jobs.jobs()) {
    nlohmann::ordered_json blocks = nlohmann::ordered_json::array();
    for (const v1::RankBlock& block : job.blocks()) {
      blocks.push_back({{"worker", block.worker()}, {"ranks", block.ranks()}});
    }
    const bool ended = job.ended_unix_ms() != 0;
    auto time = [](int64_t unix_ms) {
      return unix_ms == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(unix_ms);
    };
    list.push_back(
        {{"job", job.job()},
         {"state", v1::JobState_Name(job.state())},
         {"command", job.command()},
         {"ranks", job.ranks()},
         {"workers", blocks},
         {"submitted_unix_ms", job.submitted_unix_ms()},
         {"started_unix_ms", time(job.started_unix_ms())},
         {"ended_unix_ms", time(job.ended_unix_ms())},
         {"exit_code", ended ? nlohmann::ordered_json(job.exit_code()) : nlohmann::ordered_json()},
         {"error", job.error()}});
  }
  return Dump({{"jobs", list}});
}

absl::Status ShowWorkers(const std::shared_ptr<grpc::Channel>& channel,
                         const WorkersCommand& command) {
  v1::WorkersResponse response;
  MPILAUNCH_RETURN_IF_ERROR(Ask([&](grpc::ClientContext* context) {
    return v1::Job::NewStub(channel)->Workers(context, v1::WorkersRequest(), &response);
  }));
  return Print(command.json ? FormatWorkersJson(response) : FormatWorkers(response));
}

absl::Status ShowJobs(const std::shared_ptr<grpc::Channel>& channel, const JobsCommand& command) {
  v1::ListJobsResponse response;
  MPILAUNCH_RETURN_IF_ERROR(Ask([&](grpc::ClientContext* context) {
    return v1::Job::NewStub(channel)->List(context, v1::ListJobsRequest(), &response);
  }));
  return Print(command.json ? FormatJobsJson(response) : FormatJobs(response, absl::Now()));
}

absl::Status CancelJob(const std::shared_ptr<grpc::Channel>& channel,
                       const CancelCommand& command) {
  v1::CancelJobRequest request;
  request.set_job(command.job);
  v1::CancelJobResponse response;
  return Ask([&](grpc::ClientContext* context) {
    return v1::Job::NewStub(channel)->Cancel(context, request, &response);
  });
}

}  // namespace mpilaunch
