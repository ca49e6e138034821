// The real mpilaunch-rsh against a server in the test.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>

#include "common/unique_fd.h"
#include "launcher/rsh/rsh_protocol.h"

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Pipe {
  Pipe() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) ADD_FAILURE() << "pipe2: " << std::strerror(errno);
    read.reset(fds[0]);
    write.reset(fds[1]);
  }
  UniqueFd read, write;
};

std::string ReadAll(int fd) {
  std::string all;
  char bytes[65536];
  ssize_t size;
  while ((size = read(fd, bytes, sizeof(bytes))) > 0) all.append(bytes, size);
  return all;
}

// One running mpilaunch-rsh.
class Program {
 public:
  struct Setup {
    std::vector<std::string> arguments = {"w1", "echo", "\"hi\""};
    std::vector<std::string> environment;
    int stdin_fd = -1;  // -1: closed
  };
  explicit Program(const Setup& setup) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (setup.stdin_fd >= 0) {
      posix_spawn_file_actions_adddup2(&actions, setup.stdin_fd, 0);
    } else {
      posix_spawn_file_actions_addclose(&actions, 0);
    }
    posix_spawn_file_actions_adddup2(&actions, out_.write.get(), 1);
    posix_spawn_file_actions_adddup2(&actions, err_.write.get(), 2);
    std::vector<std::string> words = {"mpilaunch-rsh"};
    words.insert(words.end(), setup.arguments.begin(), setup.arguments.end());
    const int result = posix_spawn(&pid_, MPILAUNCH_BIN_DIR "/mpilaunch-rsh", &actions, nullptr,
                                   Pointers(words).data(), Pointers(setup.environment).data());
    EXPECT_EQ(result, 0) << std::strerror(result);
    posix_spawn_file_actions_destroy(&actions);
    out_.write.reset();
    err_.write.reset();
  }
  ~Program() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Program(const Program&) = delete;

  // The wait status.
  int Wait() {
    int status = 0;
    EXPECT_EQ(wait4(pid_, &status, 0, &usage_), pid_);
    pid_ = -1;
    return status;
  }
  int ExitCode() {
    const int status = Wait();
    EXPECT_TRUE(WIFEXITED(status)) << status;
    return WEXITSTATUS(status);
  }
  pid_t pid() const { return pid_; }
  std::string Stdout() { return ReadAll(out_.read.get()); }
  std::string Stderr() { return ReadAll(err_.read.get()); }
  void CloseStdout() { out_.read.reset(); }
  double CpuSeconds() const {
    return usage_.ru_utime.tv_sec + usage_.ru_stime.tv_sec +
           (usage_.ru_utime.tv_usec + usage_.ru_stime.tv_usec) * 1e-6;
  }

 private:
  static std::vector<char*> Pointers(const std::vector<std::string>& words) {
    std::vector<char*> pointers;
    for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
    pointers.push_back(nullptr);
    return pointers;
  }

  Pipe out_, err_;
  pid_t pid_ = -1;
  rusage usage_{};
};

// The daemon's end of one connection.
class Connection {
 public:
  explicit Connection(int fd) : fd_(fd) {}

  // Nothing at the end of the stream.
  std::optional<RshFrame> Next() {
    RshFrame frame;
    while (decoder_.Next(&frame) != RshFrameDecoder::Result::kFrame) {
      char bytes[65536];
      const ssize_t size = recv(fd_.get(), bytes, sizeof(bytes), 0);
      if (size <= 0) return std::nullopt;
      decoder_.Append({bytes, static_cast<size_t>(size)});
    }
    return frame;
  }
  RshRequest Request() {
    RshRequest request;
    std::string error;
    const auto frame = Next();
    EXPECT_TRUE(frame && frame->type == RshFrameType::kRequest);
    EXPECT_TRUE(frame && DecodeRshRequest(frame->payload, &request, &error)) << error;
    return request;
  }
  bool IsQuietFor(int milliseconds) {
    pollfd ready = {fd_.get(), POLLIN, 0};
    return poll(&ready, 1, milliseconds) == 0;
  }
  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      ASSERT_GT(sent, 0) << std::strerror(errno);
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  void Close() { fd_.reset(); }

 private:
  UniqueFd fd_;
  RshFrameDecoder decoder_;
};

class RshMain : public ::testing::Test {
 protected:
  RshMain() {
    char name[] = "/tmp/rsh_main_test.XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    socket_path_ = folder_ + "/rsh.sock";
    listener_.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, socket_path_.c_str());
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    null_.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
  }
  ~RshMain() override { std::filesystem::remove_all(folder_); }

  void Listen() { ASSERT_EQ(listen(listener_.get(), 128), 0); }
  Connection Accept() {
    return Connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  std::vector<std::string> Environment() const {
    return {"MPILAUNCH_JOB=17", "MPILAUNCH_RSH_SOCKET=" + socket_path_};
  }
  Program::Setup WithNullStdin() const {
    return {.environment = Environment(), .stdin_fd = null_.get()};
  }
  // `program` ends with 255 and exactly `line` (and its newline) on stderr, nothing on stdout.
  static void ExpectFailure(Program* program, ::testing::Matcher<std::string> line) {
    EXPECT_EQ(program->ExitCode(), 255);
    const std::string text = program->Stderr();
    EXPECT_THAT(text, line);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_THAT(text, ::testing::EndsWith("\n"));
    EXPECT_EQ(program->Stdout(), "");
  }

  std::string folder_;
  std::string socket_path_;
  UniqueFd listener_;
  UniqueFd null_;
};

TEST_F(RshMain, RunsOneCommand) {
  Listen();
  Program program(WithNullStdin());
  Connection daemon = Accept();
  const RshRequest request = daemon.Request();
  EXPECT_EQ(request.job, "17");
  EXPECT_EQ(request.host, "w1");
  EXPECT_EQ(request.command, "echo \"hi\"");
  daemon.Send(EncodeRshData(RshFrameType::kStdout, "out\n") +
              EncodeRshData(RshFrameType::kStderr, "err\n") +
              EncodeRshData(RshFrameType::kStdout, "more\n") + EncodeRshExit({7, ""}));
  EXPECT_EQ(program.ExitCode(), 7);
  EXPECT_EQ(program.Stdout(), "out\nmore\n");
  EXPECT_EQ(program.Stderr(), "err\n");
}

TEST_F(RshMain, LongestCommandArrives) {
  Listen();
  Program::Setup setup = WithNullStdin();
  // One word of an argv holds 128 KiB at most on Linux.
  setup.arguments = {"w1"};
  for (int i = 0; i < 10; ++i) setup.arguments.push_back(std::string(100 << 10, 'a' + i));
  Program program(setup);
  Connection daemon = Accept();
  EXPECT_EQ(daemon.Request().command.size(), (100u << 10) * 10 + 9);
  daemon.Send(EncodeRshExit({0, ""}));
  EXPECT_EQ(program.ExitCode(), 0);
}

TEST_F(RshMain, MuchOutputInOddPiecesArrivesWhole) {
  Listen();
  Program program(WithNullStdin());
  Connection daemon = Accept();
  daemon.Request();
  std::string sent;
  for (int i = 0; sent.size() < (3u << 20); ++i) sent += std::to_string(i) + std::string(1, '\0');
  std::thread sender([&] {
    const std::string frames = EncodeRshData(RshFrameType::kStdout, sent) + EncodeRshExit({0, ""});
    for (size_t at = 0, size = 1; at < frames.size(); at += size, size = size * 7 % 50021 + 1) {
      daemon.Send(std::string_view(frames).substr(at, size));
    }
  });
  EXPECT_EQ(program.Stdout(), sent);
  sender.join();
  EXPECT_EQ(program.ExitCode(), 0);
}

TEST_F(RshMain, StdinIsRelayedToItsEnd) {
  Listen();
  Pipe input;
  Program program({.environment = Environment(), .stdin_fd = input.read.get()});
  Connection daemon = Accept();
  daemon.Request();
  ASSERT_EQ(write(input.write.get(), "abc", 3), 3);
  auto frame = daemon.Next();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->type, RshFrameType::kStdin);
  EXPECT_EQ(frame->payload, "abc");
  input.write.reset();
  frame = daemon.Next();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->type, RshFrameType::kStdinEnd);
  daemon.Send(EncodeRshExit({0, ""}));
  EXPECT_EQ(program.ExitCode(), 0);
}

TEST_F(RshMain, StdinThatIsNotReadDoesNotHoldBackTheExit) {
  Listen();
  Pipe input;  // stays open and silent
  Program program({.environment = Environment(), .stdin_fd = input.read.get()});
  Connection daemon = Accept();
  daemon.Request();
  daemon.Send(EncodeRshExit({4, ""}));
  EXPECT_EQ(program.ExitCode(), 4);
}

TEST_F(RshMain, EndOfStdinIsSaidOnceAndCostsNoCpu) {
  Listen();
  for (const int stdin_fd : {null_.get(), -1}) {
    Program program({.environment = Environment(), .stdin_fd = stdin_fd});
    Connection daemon = Accept();
    daemon.Request();
    const auto frame = daemon.Next();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->type, RshFrameType::kStdinEnd);
    EXPECT_TRUE(daemon.IsQuietFor(300));
    daemon.Send(EncodeRshExit({0, ""}));
    EXPECT_EQ(program.ExitCode(), 0);
    EXPECT_LT(program.CpuSeconds(), 0.1);
  }
}

TEST_F(RshMain, StdoutThatIsClosedLeavesTheExitCode) {
  Listen();
  Program program(WithNullStdin());
  Connection daemon = Accept();
  daemon.Request();
  program.CloseStdout();
  daemon.Send(EncodeRshData(RshFrameType::kStdout, std::string(100000, 'x')) +
              EncodeRshData(RshFrameType::kStderr, "still here") + EncodeRshExit({3, ""}));
  EXPECT_EQ(program.ExitCode(), 3);
  EXPECT_EQ(program.Stderr(), "still here");
}

TEST_F(RshMain, SigtermEndsItAndTheDaemonSeesTheSocketClose) {
  Listen();
  Program program(WithNullStdin());
  Connection daemon = Accept();
  daemon.Request();
  ASSERT_EQ(daemon.Next()->type, RshFrameType::kStdinEnd);
  ASSERT_EQ(kill(program.pid(), SIGTERM), 0);
  EXPECT_FALSE(daemon.Next());
  const int status = program.Wait();
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

TEST_F(RshMain, HundredAndThirtyAtOnce) {
  Listen();
  std::vector<std::unique_ptr<Program>> programs;
  for (int i = 0; i < 130; ++i) {
    Program::Setup setup = WithNullStdin();
    setup.arguments[0] = "w" + std::to_string(i);
    programs.push_back(std::make_unique<Program>(setup));
  }
  std::vector<Connection> connections;
  for (int i = 0; i < 130; ++i) connections.push_back(Accept());
  for (Connection& daemon : connections) {
    const int number = std::stoi(daemon.Request().host.substr(1));
    daemon.Send(EncodeRshExit({number, ""}));
  }
  for (int i = 0; i < 130; ++i) EXPECT_EQ(programs[i]->ExitCode(), i);
}

TEST_F(RshMain, SocketMissing) {
  std::filesystem::remove(socket_path_);
  Program program(WithNullStdin());
  ExpectFailure(&program, AllOf(StartsWith("mpilaunch-rsh: w1: "), HasSubstr(socket_path_),
                                HasSubstr("No such file")));
}

TEST_F(RshMain, ConnectionRefused) {  // bound, but nobody listens
  Program program(WithNullStdin());
  ExpectFailure(&program,
                AllOf(StartsWith("mpilaunch-rsh: w1: "), HasSubstr("Connection refused")));
}

TEST_F(RshMain, SocketPathTooLong) {
  Program::Setup setup = WithNullStdin();
  setup.environment[1] = "MPILAUNCH_RSH_SOCKET=/" + std::string(200, 'x');
  Program program(setup);
  ExpectFailure(&program, HasSubstr("too long"));
}

TEST_F(RshMain, ConnectionLost) {
  Listen();
  Program program(WithNullStdin());
  Connection daemon = Accept();
  daemon.Request();
  daemon.Close();
  ExpectFailure(&program, AllOf(StartsWith("mpilaunch-rsh: w1: "), HasSubstr("lost")));
}

TEST_F(RshMain, ProtocolErrors) {
  Listen();
  for (const std::string& bytes :
       {std::string("HTTP/1.1 400 Bad Request\r\n"), std::string("\x04\xff\xff\xff\xff", 5),
        std::string("\x06\0\0\0\x01x", 6), EncodeRshStdinEnd()}) {
    Program program(WithNullStdin());
    Connection daemon = Accept();
    daemon.Request();
    daemon.Send(bytes);
    ExpectFailure(&program, AllOf(StartsWith("mpilaunch-rsh: w1: "), HasSubstr("protocol error")));
  }
}

TEST_F(RshMain, ReasonOfTheDaemonIsPrinted) {
  Listen();
  Program program(WithNullStdin());
  Connection daemon = Accept();
  daemon.Request();
  daemon.Send(EncodeRshExit({255, "worker w1 was lost\nwhile starting orted"}));
  ExpectFailure(&program,
                ::testing::Eq("mpilaunch-rsh: w1: worker w1 was lost while starting orted\n"));
}

TEST_F(RshMain, BadArgumentsAndEnvironment) {
  Program::Setup setup = WithNullStdin();
  setup.arguments = {};
  Program no_host(setup);
  ExpectFailure(&no_host, StartsWith("mpilaunch-rsh: no host given"));
  setup.arguments = {"w1"};
  Program no_command(setup);
  ExpectFailure(&no_command, HasSubstr("no command given"));
  setup.arguments = {"-x", "w1", "true"};
  Program option(setup);
  ExpectFailure(&option, HasSubstr("option -x"));
  setup.arguments = {"w1", "true"};
  setup.environment = {};
  Program no_environment(setup);
  ExpectFailure(&no_environment, StartsWith("mpilaunch-rsh: w1: MPILAUNCH_RSH_SOCKET is not set"));
}

}  // namespace
}  // namespace mpilaunch
