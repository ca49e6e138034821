// The Process service of a real agent-side server over mTLS, with real processes.
#include "agent/process_service.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "agent/job_environment.h"
#include "common/blob_store.h"
#include "common/process_scan.h"
#include "common/program_path.h"
#include "common/run_program.h"
#include "common/tls.h"
#include "tests/unit/trust_testing.h"

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr absl::Duration kDeadline = absl::Seconds(60);

// The frontend's end of one Exec.
class Exec {
 public:
  Exec(v1::Process::Stub& stub, const std::string& job, const std::string& command) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
    stream_ = stub.Exec(&context_);
    v1::ExecRequest request;
    request.mutable_start()->set_job(job);
    request.mutable_start()->set_command(command);
    stream_->Write(request);
  }

  void Write(const v1::ExecRequest& request) { stream_->Write(request); }
  void WriteStdin(const std::string& bytes) {
    v1::ExecRequest request;
    request.set_stdin(bytes);
    stream_->Write(request);
  }
  void CloseStdin() {
    v1::ExecRequest request;
    request.set_stdin_eof(true);
    stream_->Write(request);
  }
  void Signal(int signal) {
    v1::ExecRequest request;
    request.set_signal(signal);
    stream_->Write(request);
  }
  void EndRequests() { stream_->WritesDone(); }
  void Cancel() { context_.TryCancel(); }

  // False at the end of the stream.
  bool ReadOne() {
    v1::ExecEvent event;
    if (!stream_->Read(&event)) return false;
    EXPECT_EQ(exits, 0) << "an event after the exit";
    if (event.has_started_pid()) pid = static_cast<pid_t>(event.started_pid());
    stdout_text += event.stdout();
    stderr_text += event.stderr();
    if (event.has_exit()) {
      ++exits;
      exit = event.exit();
    }
    return true;
  }
  void AwaitStdout(const std::string& wanted) {
    while (stdout_text.find(wanted) == std::string::npos) ASSERT_TRUE(ReadOne());
  }
  grpc::Status Finish() {
    while (ReadOne()) {
    }
    return stream_->Finish();
  }
  int ExitCode() {
    const grpc::Status status = Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(exits, 1);
    return exit.code();
  }

  pid_t pid = 0;
  std::string stdout_text;
  std::string stderr_text;
  int exits = 0;
  v1::ExitStatus exit;

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ExecRequest, v1::ExecEvent>> stream_;
};

class ProcessServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    init_ = InitLoop::Start([](int) {}).value();
    blobs_ = BlobStore::Open(folder_ / "blobs", 1 << 20).value();
    staging_ =
        Staging::Open({.job_root = folder_ / "jobs", .blobs = blobs_.get(), .init = init_.get()})
            .value();
    service_ = std::make_unique<ProcessService>(
        ProcessService::Options{.init = init_.get(),
                                .staging = staging_.get(),
                                .job_environment = {"EXTRA=1", "REPLACED=ours"}});
    grpc::ServerBuilder builder;
    builder.AddListeningPort(
        "127.0.0.1:0", MutualServerCredentials(NewIdentity(*ca_, Role::kWorker, "w1")), &port_);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = NewStub(Role::kFrontend, "frontend");
  }
  void TearDown() override {
    stub_.reset();
    service_->EndAllJobs(absl::ZeroDuration());
    server_->Shutdown(std::chrono::system_clock::now());
    service_.reset();
  }

  std::unique_ptr<v1::Process::Stub> NewStub(Role role, const std::string& name) {
    grpc::ChannelArguments arguments = ExpectServer(Role::kWorker, "w1");
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return v1::Process::NewStub(grpc::CreateCustomChannel(
        absl::StrCat("127.0.0.1:", port_), MutualChannelCredentials(NewIdentity(*ca_, role, name)),
        arguments));
  }
  grpc::Status Stage(const v1::StageRequest& request, v1::Process::Stub& stub) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
    v1::StageResponse response;
    return stub.Stage(&context, request, &response);
  }
  void StageEmpty(const std::string& job) {
    v1::StageRequest request;
    request.set_job(job);
    const grpc::Status status = Stage(request, *stub_);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  grpc::Status EndJob(const std::string& job, v1::Process::Stub& stub, uint32_t& killed) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kDeadline));
    v1::EndJobRequest request;
    request.set_job(job);
    v1::EndJobResponse response;
    const grpc::Status status = stub.EndJob(&context, request, &response);
    killed = response.killed();
    return status;
  }
  uint32_t EndJob(const std::string& job) {
    uint32_t killed = 0;
    const grpc::Status status = EndJob(job, *stub_, killed);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return killed;
  }

  TemporaryFolder folder_;
  std::unique_ptr<CertificateAuthority> ca_ = NewAuthority(folder_ / "ca");
  std::unique_ptr<InitLoop> init_;
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<ProcessService> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::unique_ptr<v1::Process::Stub> stub_;
};

TEST_F(ProcessServiceTest, CommandRunsInTheJobsDirectoryAndItsExitComesLast) {
  StageEmpty("1");
  Exec exec(*stub_, "1", "pwd; echo oops >&2; exit 3");
  EXPECT_EQ(exec.ExitCode(), 3);
  EXPECT_EQ(exec.exit.signal(), 0);
  EXPECT_GT(exec.pid, 1);
  EXPECT_EQ(exec.stdout_text, staging_->WorkDirectory("1") + "\n");
  EXPECT_EQ(exec.stderr_text, "oops\n");
}

TEST_F(ProcessServiceTest, CommandSeesTheJobsEnvironment) {
  StageEmpty("17");
  Exec exec(*stub_, "17", "env");
  EXPECT_EQ(exec.ExitCode(), 0);
  EXPECT_THAT(exec.stdout_text, HasSubstr("MPILAUNCH_JOB=17\n"));
  EXPECT_THAT(exec.stdout_text, HasSubstr("EXTRA=1\n"));
}

TEST(JobEnvironmentTest, AgentsSettingsStayOutAndExtraReplaces) {
  EXPECT_THAT(JobEnvironment({"A=1", "MPILAUNCH_NAME=w1", "PATH=/bin", "AB=2"}, {"A=new"}, "5"),
              testing::ElementsAre("PATH=/bin", "AB=2", "A=new", "MPILAUNCH_JOB=5"));
}

TEST(JobEnvironmentTest, PathIsThereAlways) {
  EXPECT_THAT(JobEnvironment({}, {}, "5"),
              testing::ElementsAre(StartsWith("PATH=/usr/local/sbin:"), "MPILAUNCH_JOB=5"));
}

TEST_F(ProcessServiceTest, KilledCommandTellsItsSignal) {
  StageEmpty("1");
  Exec exec(*stub_, "1", "kill -KILL $$");
  EXPECT_EQ(exec.ExitCode(), 128 + SIGKILL);
  EXPECT_EQ(exec.exit.signal(), SIGKILL);
}

TEST_F(ProcessServiceTest, OthersThanTheFrontendAreRefused) {
  StageEmpty("1");
  for (Role role : {Role::kWorker, Role::kClient}) {
    std::unique_ptr<v1::Process::Stub> other = NewStub(role, "w2");
    Exec exec(*other, "1", "true");
    EXPECT_EQ(exec.Finish().error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(exec.pid, 0);
    v1::StageRequest request;
    request.set_job("2");
    EXPECT_EQ(Stage(request, *other).error_code(), grpc::StatusCode::PERMISSION_DENIED);
    uint32_t killed = 0;
    EXPECT_EQ(EndJob("1", *other, killed).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  }
  EXPECT_TRUE(std::filesystem::exists(staging_->WorkDirectory("1")));
}

TEST_F(ProcessServiceTest, JobThatIsNotStagedTakesNoCommand) {
  Exec exec(*stub_, "99", "true");
  const grpc::Status status = exec.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("job 99"));
}

TEST_F(ProcessServiceTest, JobThatIsAPathIsRefused) {
  for (const char* job : {"", "..", "../1", "1/..", "x"}) {
    Exec exec(*stub_, job, "true");
    EXPECT_EQ(exec.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT) << job;
    uint32_t killed = 0;
    EXPECT_EQ(EndJob(job, *stub_, killed).error_code(), grpc::StatusCode::INVALID_ARGUMENT) << job;
  }
}

TEST_F(ProcessServiceTest, BlobThatIsMissingFailsTheStage) {
  v1::StageRequest request;
  request.set_job("1");
  request.set_program("hello");
  v1::StagedFile* file = request.add_files();
  file->set_name("hello");
  file->set_sha256(std::string(64, 'a'));
  file->set_size(1);
  EXPECT_EQ(Stage(request, *stub_).error_code(), grpc::StatusCode::ABORTED);
}

TEST_F(ProcessServiceTest, AJobEndsWhileAnotherIsStagedSlowly) {
  // What the agent asks for the program's libraries is this loader.
  const std::string loader = folder_ / "ld-musl-slow";
  const std::string started = folder_ / "started", go_on = folder_ / "go_on";
  ASSERT_EQ(mkfifo(started.c_str(), 0600) + mkfifo(go_on.c_str(), 0600), 0);
  folder_.Write("ld-musl-slow",
                absl::StrCat("#!/bin/sh\necho >", started, "\nread line <", go_on, "\n"));
  ASSERT_EQ(chmod(loader.c_str(), 0700), 0);
  folder_.Write("slow.c", "int main(void) { return 0; }");
  const auto compiled = RunProgram(*init_,
                                   {"cc", folder_ / "slow.c", "-o", folder_ / "slow",
                                    absl::StrCat("-Wl,--dynamic-linker=", loader)},
                                   CurrentEnvironment(), kDeadline);
  ASSERT_TRUE(compiled.ok() && compiled->exit.code == 0);
  const std::string program = ReadWhole(folder_ / "slow");
  const FileDigest digest = HashFile(folder_ / "slow").value();
  auto writer = blobs_->NewBlob(digest).value();
  ASSERT_TRUE(writer->Write(program).ok() && writer->Commit().ok());
  v1::StageRequest request;
  request.set_job("1");
  request.set_program("slow");
  v1::StagedFile* file = request.add_files();
  file->set_name("slow");
  file->set_sha256(digest.sha256);
  file->set_size(digest.size);
  file->set_executable(true);

  StageEmpty("2");
  std::atomic<bool> staged = false;
  std::thread stage([&] {
    EXPECT_TRUE(Stage(request, *stub_).ok());
    staged = true;
  });
  std::ifstream(started).get();
  EndJob("2");
  EXPECT_FALSE(staged);
  // The job's own end comes after its Stage.
  std::thread end([&] { EndJob("1"); });
  std::ofstream(go_on) << "\n";
  stage.join();
  end.join();
  EXPECT_TRUE(staged);
  EXPECT_FALSE(std::filesystem::exists(staging_->WorkDirectory("1")));
  StageEmpty("1");  // and nothing of it is remembered
}

TEST_F(ProcessServiceTest, FirstRequestMustBeStart) {
  grpc::ClientContext context;
  auto stream = stub_->Exec(&context);
  v1::ExecRequest request;
  request.set_stdin("x");
  stream->Write(request);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ProcessServiceTest, CallWithoutAnyRequestIsRefused) {
  grpc::ClientContext context;
  auto stream = stub_->Exec(&context);
  stream->WritesDone();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ProcessServiceTest, BadRequestEndsTheCommand) {
  StageEmpty("1");
  std::vector<v1::ExecRequest> bad(4);
  bad[0].mutable_start()->set_job("1");
  bad[1].set_stdin(std::string(1024 * 1024 + 1, 'x'));
  bad[2].set_signal(-9);
  for (const v1::ExecRequest& request : bad) {
    Exec exec(*stub_, "1", "exec sleep 1000");
    exec.Write(request);
    EXPECT_EQ(exec.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(exec.exit.signal(), SIGTERM);
  }
  EXPECT_THAT(FindProcessesByEnvironment(JobMark("1")), IsEmpty());
}

TEST_F(ProcessServiceTest, StdinGoesThroughWhole) {
  StageEmpty("1");
  std::string input;
  for (int i = 0; input.size() < 10'000'000; ++i) absl::StrAppend(&input, i, "\n");
  Exec exec(*stub_, "1", "cat");
  std::thread writer([&] {
    for (size_t at = 0; at < input.size(); at += 500'000)
      exec.WriteStdin(input.substr(at, 500'000));
    exec.CloseStdin();
  });
  EXPECT_EQ(exec.ExitCode(), 0);
  writer.join();
  EXPECT_TRUE(exec.stdout_text == input);
}

TEST_F(ProcessServiceTest, EndOfTheRequestsIsEndOfStdin) {
  StageEmpty("1");
  Exec exec(*stub_, "1", "cat; echo end");
  exec.WriteStdin("abc\n");
  exec.EndRequests();
  EXPECT_EQ(exec.ExitCode(), 0);
  EXPECT_EQ(exec.stdout_text, "abc\nend\n");
}

TEST_F(ProcessServiceTest, CommandThatReadsNoStdinHoldsTheCallerBackAndCanBeCancelled) {
  StageEmpty("1");
  Exec exec(*stub_, "1", "echo up; exec sleep 1000");
  exec.AwaitStdout("up");
  std::thread writer([&] {
    const std::string chunk(500'000, 'x');
    for (int i = 0; i < 100; ++i) exec.WriteStdin(chunk);  // blocks until the call is over
  });
  exec.Cancel();
  EXPECT_EQ(exec.Finish().error_code(), grpc::StatusCode::CANCELLED);
  writer.join();
}

TEST_F(ProcessServiceTest, SignalReachesTheCommand) {
  StageEmpty("1");
  Exec exec(*stub_, "1", "trap 'echo got; exit 7' USR1; echo up; while :; do sleep 0.02; done");
  exec.AwaitStdout("up");
  exec.Signal(SIGUSR1);
  EXPECT_EQ(exec.ExitCode(), 7);
  EXPECT_EQ(exec.stdout_text, "up\ngot\n");
}

TEST_F(ProcessServiceTest, SlowReaderHoldsTheCommandBackAndLosesNothing) {
  StageEmpty("1");
  constexpr size_t kBytes = 50'000'000;
  Exec exec(*stub_, "1",
            absl::StrCat("head -c ", kBytes, " /dev/zero; echo done >", folder_ / "done"));
  exec.AwaitStdout(std::string(1, '\0'));
  Exec other(*stub_, "1", "sleep 0.5");
  EXPECT_EQ(other.ExitCode(), 0);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "done")) << "50 MB were buffered somewhere";
  EXPECT_EQ(exec.ExitCode(), 0);
  EXPECT_EQ(exec.stdout_text.size(), kBytes);
}

TEST_F(ProcessServiceTest, CancelledCallLetsTheCommandCleanUp) {
  StageEmpty("1");
  const std::string trace = folder_ / "cleaned";
  Exec exec(*stub_, "1",
            absl::StrCat("trap 'echo x >", trace,
                         "; exit 0' TERM; echo up; while :; do sleep 0.02; done"));
  exec.AwaitStdout("up");
  exec.Cancel();
  EXPECT_EQ(exec.Finish().error_code(), grpc::StatusCode::CANCELLED);
  Exec waiting(*stub_, "1", absl::StrCat("while ! [ -e ", trace, " ]; do sleep 0.02; done"));
  EXPECT_EQ(waiting.ExitCode(), 0);
}

TEST_F(ProcessServiceTest, CancelledCallKillsACommandThatIgnoresSigterm) {
  StageEmpty("1");
  Exec exec(*stub_, "1", "trap '' TERM; echo up; while :; do sleep 0.05; done");
  exec.AwaitStdout("up");
  const absl::Time start = absl::Now();
  exec.Cancel();
  exec.Finish();
  Exec waiting(*stub_, "1", absl::StrCat("while kill -0 ", exec.pid, "; do sleep 0.02; done"));
  EXPECT_EQ(waiting.ExitCode(), 0);
  EXPECT_GE(absl::Now() - start, absl::Seconds(1));
}

TEST_F(ProcessServiceTest, CancelWhileOutputWaitsForAReader) {
  StageEmpty("1");
  Exec exec(*stub_, "1", "exec yes");
  exec.AwaitStdout("y");
  exec.Cancel();
  exec.Finish();
  // It was paused, must be read on to die, and only then the job is empty.
  EXPECT_LE(EndJob("1"), 1u);
  EXPECT_THAT(FindProcessesByEnvironment(JobMark("1")), IsEmpty());
}

// Cancel, exit and output meet in every order. Sanitizers judge.
TEST_F(ProcessServiceTest, CancelExitAndWritesInEveryOrder) {
  StageEmpty("1");
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([this, thread] {
      std::mt19937 random(thread);
      for (int i = 0; i < 60; ++i) {
        Exec exec(*stub_, "1",
                  absl::StrCat("head -c ", random() % 300'000,
                               " /dev/zero; echo x >&2; cat >/dev/null & exit 3"));
        const unsigned reads = random() % 8;
        bool open = true;
        for (unsigned k = 0; k < reads && open; ++k) open = exec.ReadOne();
        if (random() % 4 == 0) exec.WriteStdin("x");
        const bool cancel = random() % 2 == 0;
        if (cancel) exec.Cancel();
        const grpc::Status status = exec.Finish();
        EXPECT_TRUE(status.ok() || (cancel && status.error_code() == grpc::StatusCode::CANCELLED))
            << status.error_message();
        if (status.ok()) {
          EXPECT_EQ(exec.exit.code(), 3);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EndJob("1");
  EXPECT_THAT(FindProcessesByEnvironment(JobMark("1")), IsEmpty());
}

TEST_F(ProcessServiceTest, EndJobKillsWhatEscapedAndRemovesTheDirectory) {
  StageEmpty("1");
  StageEmpty("2");
  Exec running(*stub_, "1", "echo up; exec sleep 1000");
  running.AwaitStdout("up");
  Exec escaped(*stub_, "1",
               "setsid sh -c 'trap \"\" TERM HUP; echo out; while :; do sleep 1000; done' >left "
               "2>&1 & exit 0");
  EXPECT_EQ(escaped.ExitCode(), 0);
  Exec neighbour(*stub_, "2", "echo up; read x; exit 0");
  neighbour.AwaitStdout("up");

  EXPECT_GE(EndJob("1"), 2u);
  EXPECT_THAT(FindProcessesByEnvironment(JobMark("1")), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(folder_ / "jobs/1"));
  EXPECT_EQ(running.ExitCode(), 128 + SIGKILL);
  EXPECT_EQ(EndJob("1"), 0u) << "idempotent";
  Exec late(*stub_, "1", "true");
  EXPECT_EQ(late.Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);

  neighbour.WriteStdin("go\n");
  EXPECT_EQ(neighbour.ExitCode(), 0) << "another job's";
}

TEST_F(ProcessServiceTest, EndJobKillsACommandThatHidItsMark) {
  StageEmpty("1");
  Exec exec(*stub_, "1", "echo up; exec env -i sleep 1000");
  exec.AwaitStdout("up");
  EndJob("1");
  EXPECT_EQ(exec.ExitCode(), 128 + SIGKILL);
}

TEST_F(ProcessServiceTest, JobMayBeStagedAgainAfterItsEnd) {
  StageEmpty("1");
  EndJob("1");
  StageEmpty("1");
  Exec exec(*stub_, "1", "exit 4");
  EXPECT_EQ(exec.ExitCode(), 4);
}

TEST_F(ProcessServiceTest, EndAllJobsIsGentleFirstAndFirmThen) {
  StageEmpty("1");
  StageEmpty("2");
  const std::string trace = folder_ / "cleaned";
  Exec gentle(*stub_, "1",
              absl::StrCat("trap 'echo x >", trace,
                           "; exit 0' TERM; echo up; while :; do sleep 0.02; done"));
  gentle.AwaitStdout("up");
  Exec stubborn(*stub_, "2", "trap '' TERM; echo up; while :; do sleep 0.05; done");
  stubborn.AwaitStdout("up");
  const absl::Time start = absl::Now();
  service_->EndAllJobs(absl::Seconds(1));
  EXPECT_LT(absl::Now() - start, absl::Seconds(9));
  EXPECT_EQ(gentle.ExitCode(), 0);
  EXPECT_TRUE(std::filesystem::exists(trace));
  EXPECT_EQ(stubborn.ExitCode(), 128 + SIGKILL);
  EXPECT_THAT(FindProcessesByEnvironment(JobMark("2")), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(folder_ / "jobs/1"));
}

TEST_F(ProcessServiceTest, ServerShutdownEndsRunningCommands) {
  StageEmpty("1");
  Exec exec(*stub_, "1", "echo up; exec sleep 1000");
  exec.AwaitStdout("up");
  server_->Shutdown(std::chrono::system_clock::now());
  EXPECT_FALSE(exec.Finish().ok());
  EXPECT_NE(kill(exec.pid, 0), 0)
      << "Shutdown returns when the call is done, and it is with its command";
}

TEST_F(ProcessServiceTest, ManyCommandsAtOnce) {
  StageEmpty("1");
  std::vector<std::unique_ptr<Exec>> execs;
  for (int i = 0; i < 100; ++i) {
    execs.push_back(
        std::make_unique<Exec>(*stub_, "1", absl::StrCat("read x; echo ", i, "; exit ", i)));
  }
  for (auto& exec : execs) exec->WriteStdin("go\n");
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(execs[i]->ExitCode(), i);
    EXPECT_EQ(execs[i]->stdout_text, absl::StrCat(i, "\n"));
  }
}

}  // namespace
}  // namespace mpilaunch

int main(int argc, char** argv) {
  mpilaunch::PrepareProcess();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
