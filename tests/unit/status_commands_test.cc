#include "launcher/status_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;

v1::WorkersResponse TwoWorkers() {
  v1::WorkersResponse response;
  v1::WorkerInfo* first = response.add_workers();
  first->set_name("w1");
  first->set_slots_used(3);
  first->mutable_facts()->set_slots(4);
  first->mutable_facts()->set_slots_reason("4 cores by affinity");
  first->mutable_facts()->set_address("10.0.0.2");
  first->mutable_facts()->set_architecture("x86_64");
  first->mutable_facts()->set_glibc_version("2.36");
  first->mutable_facts()->set_mpi_version("4.1.4");
  first->mutable_facts()->set_shm_bytes(64 << 20);
  v1::WorkerInfo* second = response.add_workers();
  second->set_name("a-longer-name");
  second->set_state(v1::LOST);
  return response;
}

v1::ListJobsResponse TwoJobs() {
  v1::ListJobsResponse response;
  v1::JobInfo* done = response.add_jobs();
  done->set_job("9");
  done->set_state(v1::FAILED);
  done->set_command("mpilaunch hello \xff");  // what a person types need not be UTF-8
  done->set_ranks(8);
  done->add_blocks()->set_worker("w1");
  done->mutable_blocks(0)->set_ranks(8);
  done->set_submitted_unix_ms(1000);
  done->set_started_unix_ms(2000);
  done->set_ended_unix_ms(3500);
  done->set_exit_code(3);
  v1::JobInfo* queued = response.add_jobs();
  queued->set_job("10");
  queued->set_state(v1::QUEUED);
  queued->set_submitted_unix_ms(4000);
  return response;
}

TEST(StatusCommands, WorkersTableIsAligned) {
  EXPECT_EQ("\n" + FormatWorkers(TwoWorkers()), R"(
WORKER         STATE  USED  SLOTS  WHY                  ADDRESS   ARCH    GLIBC  OPEN MPI  /DEV/SHM
w1             READY  3     4      4 cores by affinity  10.0.0.2  x86_64  2.36   4.1.4     64 MiB
a-longer-name  LOST   0     0      -                    -         -       -      -         0 MiB
)");
}

TEST(StatusCommands, WarningsOfWorkersStandBelowTheTable) {
  v1::WorkersResponse workers = TwoWorkers();
  workers.mutable_workers(0)->mutable_facts()->add_warnings("mounted noexec");
  workers.mutable_workers(1)->mutable_facts()->add_warnings("long gone");
  EXPECT_EQ(FormatWorkers(workers), FormatWorkers(TwoWorkers()) + "w1: mounted noexec\n");
  const nlohmann::json json = nlohmann::json::parse(FormatWorkersJson(workers));
  EXPECT_EQ(json["workers"][0]["warnings"], nlohmann::json::array({"mounted noexec"}));
}

TEST(StatusCommands, NothingToShowIsSaid) {
  EXPECT_THAT(FormatWorkers({}), HasSubstr("no worker"));
  EXPECT_THAT(FormatJobs({}, absl::UnixEpoch()), HasSubstr("no job"));
}

TEST(StatusCommands, JobsTable) {
  const std::string table = FormatJobs(TwoJobs(), absl::FromUnixMillis(6000));
  EXPECT_THAT(table, HasSubstr("9    FAILED  8      1.5s  3     w1:8"));
  EXPECT_THAT(table, HasSubstr("10   QUEUED  0      2s    -     -"));
}

TEST(StatusCommands, JsonIsValidAndTellsWhatHasNotHappenedYet) {
  const nlohmann::json jobs = nlohmann::json::parse(FormatJobsJson(TwoJobs()));
  EXPECT_EQ(jobs["jobs"][0]["exit_code"], 3);
  EXPECT_EQ(jobs["jobs"][0]["workers"][0]["ranks"], 8);
  EXPECT_TRUE(jobs["jobs"][1]["exit_code"].is_null());
  EXPECT_TRUE(jobs["jobs"][1]["started_unix_ms"].is_null());
  const nlohmann::json workers = nlohmann::json::parse(FormatWorkersJson(TwoWorkers()));
  EXPECT_EQ(workers["workers"][0]["slots"], 4);
  EXPECT_EQ(workers["workers"][1]["state"], "LOST");
}

}  // namespace
}  // namespace mpilaunch
