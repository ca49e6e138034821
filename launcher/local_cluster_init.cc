#include "launcher/local_cluster_init.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/program_path.h"
#include "common/status_macros.h"
#include "launcher/namespaces.h"

namespace mpilaunch {
namespace {

// Where things are, in the cluster's private /tmp and in that of each daemon which may see them.
// Programs are run from a fixed place, so that a clone below /tmp works as any other.
constexpr char kPrograms[] = "/tmp/mpilaunch-bin";
constexpr char kFrontendFolder[] = "/tmp/mpilaunch-frontend";
constexpr char kJoinFolder[] = "/tmp/mpilaunch-join";
constexpr char kJoinBundle[] = "/tmp/mpilaunch-join/worker.json";

constexpr int kReadyFd = 3;  // in the frontend
// Exit codes of a daemon that did not come to run its program.
constexpr int kNotStarted = 125;
constexpr int kRefused = 126;

constexpr absl::Duration kStartTimeout = absl::Seconds(60);
constexpr size_t kMaxOutputBytes = 4096;  // kept of each daemon

absl::Status ErrnoStatus(absl::string_view what) { return absl::ErrnoToStatus(errno, what); }

struct Pipe {
  UniqueFd read, write;
};

absl::StatusOr<Pipe> NewPipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return ErrnoStatus("pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// What a daemon is started with.
struct DaemonPlan {
  std::string host;
  std::vector<std::string> argv;
  std::vector<std::string> visible_folders;  // of the cluster's /tmp, under the same names
};

DaemonPlan FrontendPlan(const LocalClusterOptions& options) {
  return {"frontend",
          {absl::StrCat(kPrograms, "/mpilaunchd"), "--listen", "127.0.0.1", "--control-port", "0",
           "--enrol-port", "0", "--state-dir", absl::StrCat(kFrontendFolder, "/state"), "--socket",
           absl::StrCat(kFrontendFolder, "/", kLocalSocketName), "--join-bundle", kJoinBundle,
           "--log-level", options.log_level, "--ready-fd", absl::StrCat(kReadyFd)},
          {kPrograms, kJoinFolder, kFrontendFolder}};
}

DaemonPlan AgentPlan(const LocalClusterOptions& options, int number) {
  const std::string host = absl::StrCat("w", number);
  DaemonPlan plan = {
      host,
      {absl::StrCat(kPrograms, "/mpilaunch-agent"), "--frontend", "127.0.0.1", "--join-bundle",
       kJoinBundle, "--listen", "127.0.0.1", "--log-level", options.log_level},
      {kPrograms, kJoinFolder}};
  if (options.slots_per_worker > 0) {
    plan.argv.insert(plan.argv.end(), {"--slots", absl::StrCat(options.slots_per_worker)});
  }
  return plan;
}

std::string DescribeExit(int status) {
  if (WIFSIGNALED(status)) return absl::StrCat("killed by signal ", WTERMSIG(status));
  return absl::StrCat("exit code ", WEXITSTATUS(status));
}

void WriteToStderr(absl::string_view text) {
  [[maybe_unused]] const ssize_t size = write(STDERR_FILENO, text.data(), text.size());
}

// The last bytes that a daemon wrote and nobody was shown yet.
class Output {
 public:
  explicit Output(UniqueFd pipe) : pipe_(std::move(pipe)) {
    fcntl(pipe_.get(), F_SETFL, O_NONBLOCK);
  }
  int fd() const { return pipe_.get(); }  // -1 at the end

  void Read() {
    char bytes[kMaxOutputBytes];
    ssize_t size;
    while ((size = read(pipe_.get(), bytes, sizeof(bytes))) > 0) {
      text_.append(bytes, static_cast<size_t>(size));
      if (text_.size() > kMaxOutputBytes) text_.erase(0, text_.size() - kMaxOutputBytes);
    }
    if (size == 0) pipe_.reset();
  }
  std::string TakeAll() { return std::exchange(text_, ""); }
  std::string TakeWholeLines() {
    const size_t end = fd() < 0 ? text_.size() : text_.rfind('\n') + 1;  // npos + 1 is none
    std::string lines = text_.substr(0, end);
    text_.erase(0, end);
    return lines;
  }

 private:
  UniqueFd pipe_;
  std::string text_;
};

// PERMISSION_DENIED when it was a namespace or mount that was refused, else UNAVAILABLE.
absl::Status FailedStart(absl::string_view what, int status, Output* output) {
  const bool refused = WIFEXITED(status) && WEXITSTATUS(status) == kRefused;
  std::string message = absl::StrCat(what, "; it said:\n", output->TakeAll());
  absl::StripTrailingAsciiWhitespace(&message);
  return absl::Status(
      refused ? absl::StatusCode::kPermissionDenied : absl::StatusCode::kUnavailable, message);
}

struct Daemon {
  std::string host;
  pid_t pid = -1;
  Output output;
};

class LocalClusterInit {
 public:
  LocalClusterInit(const LocalClusterInitOptions& options, UniqueFd control)
      : options_(options), control_(std::move(control)) {}

  [[noreturn]] void Run() {
    if (absl::Status status = Start(); !status.ok()) ReportFailure(status);
    while (Turn(-1, absl::InfiniteFuture()).ok()) {
    }
    _exit(0);
  }

 private:
  absl::Status Start();
  absl::Status SetUpProcess();
  absl::Status SetUpDescriptors();
  absl::Status SetUpFolders();
  absl::Status StartFrontend();
  absl::Status StartAgents();
  absl::Status StartDaemon(const DaemonPlan& plan, int ready_fd);
  absl::Status AwaitFrontend();
  absl::Status AwaitAgents();
  absl::Status ReportStarted();
  [[noreturn]] void ReportFailure(const absl::Status& status);

  absl::Status BecomeDaemon(const DaemonPlan& plan, int output_fd, int ready_fd);
  absl::Status AwaitGate();

  // Waits for one round of events, `fd` (or -1) among them; true when that one is readable.
  absl::StatusOr<bool> Turn(int fd, absl::Time deadline);
  absl::Status NotReady();
  absl::Status Reap();
  void ShowOutput(Daemon* daemon);

  const LocalClusterInitOptions options_;
  UniqueFd control_;
  UniqueFd child_signals_;
  sigset_t empty_mask_;
  rlimit open_files_{};          // as the daemons get it
  Pipe ready_;                   // the frontend writes a byte when it accepts
  Pipe gate_;                    // closed when the agents may run: the join bundle is there
  Pipe programs_;                // closed when every agent's program runs; a byte when one can not
  std::vector<Daemon> daemons_;  // the frontend is the first
  bool started_ = false;
};

absl::Status LocalClusterInit::Start() {
  MPILAUNCH_RETURN_IF_ERROR(SetUpProcess());
  MPILAUNCH_RETURN_IF_ERROR(SetUpFolders());
  MPILAUNCH_RETURN_IF_ERROR(StartFrontend());
  // The agents' namespaces are made while the frontend starts.
  MPILAUNCH_RETURN_IF_ERROR(StartAgents());
  MPILAUNCH_RETURN_IF_ERROR(AwaitFrontend());
  MPILAUNCH_RETURN_IF_ERROR(AwaitAgents());
  return ReportStarted();
}

absl::Status LocalClusterInit::SetUpProcess() {
  // Besides the control socket: it also works while this process waits in a call.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setsid();  // a Ctrl-C is for mpilaunch, which ends the job in order
  MPILAUNCH_RETURN_IF_ERROR(SetUpDescriptors());
  sigset_t blocked;
  sigemptyset(&empty_mask_);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGCHLD);
  sigprocmask(SIG_SETMASK, &blocked, nullptr);
  for (int signal = 1; signal < SIGRTMIN; ++signal) std::signal(signal, SIG_DFL);
  std::signal(SIGPIPE, SIG_IGN);
  child_signals_.reset(signalfd(-1, &blocked, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!child_signals_.valid()) return ErrnoStatus("signalfd");
  getrlimit(RLIMIT_NOFILE, &open_files_);
  const rlimit most = {open_files_.rlim_max, open_files_.rlim_max};
  setrlimit(RLIMIT_NOFILE, &most);  // one pipe per daemon
  return absl::OkStatus();
}

absl::Status LocalClusterInit::SetUpDescriptors() {
  // First of all, as it may have any number. It keeps kReadyFd taken until the frontend needs it.
  if (control_.get() != kReadyFd) {
    if (dup3(control_.get(), kReadyFd, O_CLOEXEC) < 0) return ErrnoStatus("dup3");
    control_.reset(kReadyFd);
  }
  // What the caller had open is not kept open here.
  if (close_range(kReadyFd + 1, ~0U, 0) != 0) return ErrnoStatus("close_range");
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return ErrnoStatus("/dev/null");
  dup2(null.get(), STDIN_FILENO);
  dup2(null.get(), STDOUT_FILENO);
  return absl::OkStatus();
}

absl::Status LocalClusterInit::SetUpFolders() {
  if (options_.in_user_namespace) {
    MPILAUNCH_RETURN_IF_ERROR(MapOwnIds(options_.uid, options_.gid));
  }
  MPILAUNCH_RETURN_IF_ERROR(MakeMountsPrivate());
  MPILAUNCH_RETURN_IF_ERROR(
      MountPrivateFolders({"/tmp"}, {{options_.cluster.binary_dir, kPrograms}}));
  for (const char* folder : {kFrontendFolder, kJoinFolder}) {
    if (mkdir(folder, 0700) != 0) return ErrnoStatus(absl::StrCat("mkdir ", folder));
  }
  return absl::OkStatus();
}

absl::Status LocalClusterInit::StartFrontend() {
  MPILAUNCH_ASSIGN_OR_RETURN(ready_, NewPipe());
  MPILAUNCH_RETURN_IF_ERROR(StartDaemon(FrontendPlan(options_.cluster), ready_.write.get()));
  ready_.write.reset();
  return absl::OkStatus();
}

absl::Status LocalClusterInit::StartAgents() {
  MPILAUNCH_ASSIGN_OR_RETURN(gate_, NewPipe());
  MPILAUNCH_ASSIGN_OR_RETURN(programs_, NewPipe());
  for (int number = 1; number <= options_.cluster.workers; ++number) {
    MPILAUNCH_RETURN_IF_ERROR(StartDaemon(AgentPlan(options_.cluster, number), -1));
  }
  programs_.write.reset();
  return absl::OkStatus();
}

absl::Status LocalClusterInit::StartDaemon(const DaemonPlan& plan, int ready_fd) {
  MPILAUNCH_ASSIGN_OR_RETURN(Pipe output, NewPipe());
  absl::StatusOr<pid_t> pid =
      ForkIntoNamespaces(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS);
  if (!pid.ok()) return Annotate(pid.status(), plan.host);
  if (*pid == 0) {
    const absl::Status status = BecomeDaemon(plan, output.write.get(), ready_fd);
    const std::string error = absl::StrCat(status.message(), "\n");
    [[maybe_unused]] ssize_t size = write(output.write.get(), error.data(), error.size());
    if (programs_.write.valid()) size = write(programs_.write.get(), "!", 1);
    _exit(absl::IsPermissionDenied(status) ? kRefused : kNotStarted);
  }
  daemons_.push_back({plan.host, *pid, Output(std::move(output.read))});
  return absl::OkStatus();
}

// Returns only when it fails. All other descriptors close at the exec.
absl::Status LocalClusterInit::BecomeDaemon(const DaemonPlan& plan, int output_fd, int ready_fd) {
  setsid();
  if (sethostname(plan.host.data(), plan.host.size()) != 0) return ErrnoStatus("sethostname");
  std::vector<ExposedFolder> exposed;
  for (const std::string& folder : plan.visible_folders) exposed.push_back({folder, folder});
  MPILAUNCH_RETURN_IF_ERROR(MountPrivateFolders({"/tmp", "/dev/shm"}, exposed));
  MPILAUNCH_RETURN_IF_ERROR(MountOwnProc());
  if (chdir("/") != 0) return ErrnoStatus("chdir /");
  if (ready_fd < 0) MPILAUNCH_RETURN_IF_ERROR(AwaitGate());

  std::vector<std::string> environment = LocalDaemonEnvironment(CurrentEnvironment());
  std::vector<char*> argv, envp;
  for (const std::string& word : plan.argv) argv.push_back(const_cast<char*>(word.c_str()));
  for (std::string& entry : environment) envp.push_back(entry.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  dup2(output_fd, STDOUT_FILENO);
  dup2(output_fd, STDERR_FILENO);
  if (ready_fd >= 0) dup2(ready_fd, kReadyFd);
  setrlimit(RLIMIT_NOFILE, &open_files_);
  std::signal(SIGPIPE, SIG_DFL);
  sigprocmask(SIG_SETMASK, &empty_mask_, nullptr);
  execve(argv[0], argv.data(), envp.data());
  return absl::FailedPreconditionError(absl::StrCat(plan.argv[0], ": ", std::strerror(errno)));
}

absl::Status LocalClusterInit::AwaitGate() {
  gate_.write.reset();
  char byte;
  ssize_t size;
  do {
    size = read(gate_.read.get(), &byte, 1);
  } while (size < 0 && errno == EINTR);
  return size == 0 ? absl::OkStatus() : ErrnoStatus("waiting for the frontend");
}

absl::Status LocalClusterInit::AwaitFrontend() {
  const absl::Time deadline = absl::Now() + kStartTimeout;
  while (true) {
    MPILAUNCH_ASSIGN_OR_RETURN(const bool readable, Turn(ready_.read.get(), deadline));
    if (!readable) continue;
    char byte;
    const ssize_t size = read(ready_.read.get(), &byte, 1);
    if (size == 1) return absl::OkStatus();
    if (size == 0) ready_.read.reset();  // it ended, or is about to
  }
}

absl::Status LocalClusterInit::AwaitAgents() {
  gate_.read.reset();
  gate_.write.reset();
  const absl::Time deadline = absl::Now() + kStartTimeout;
  while (true) {
    MPILAUNCH_ASSIGN_OR_RETURN(const bool readable, Turn(programs_.read.get(), deadline));
    if (!readable) continue;
    char byte;
    const ssize_t size = read(programs_.read.get(), &byte, 1);
    if (size == 0) return absl::OkStatus();
    // One could not become its program. It is about to end, and Turn will say why.
    if (size == 1) programs_.read.reset();
  }
}

absl::StatusOr<bool> LocalClusterInit::Turn(int fd, absl::Time deadline) {
  std::vector<pollfd> fds = {
      {control_.get(), POLLIN, 0}, {child_signals_.get(), POLLIN, 0}, {fd, POLLIN, 0}};
  const size_t first_output = fds.size();
  for (const Daemon& daemon : daemons_) fds.push_back({daemon.output.fd(), POLLIN, 0});

  const timespec patience = absl::ToTimespec(
      deadline == absl::InfiniteFuture() ? absl::Hours(24)
                                         : std::max(deadline - absl::Now(), absl::ZeroDuration()));
  const int ready = ppoll(fds.data(), fds.size(), &patience, nullptr);
  if (ready < 0 && errno != EINTR) return ErrnoStatus("ppoll");
  if (ready == 0 && absl::Now() >= deadline) return NotReady();
  if (ready <= 0) return false;
  if (fds[0].revents != 0) return absl::CancelledError("mpilaunch is gone");
  for (size_t i = 0; i < daemons_.size(); ++i) {
    if (fds[first_output + i].revents == 0) continue;
    daemons_[i].output.Read();
    ShowOutput(&daemons_[i]);
  }
  if (fds[1].revents != 0) MPILAUNCH_RETURN_IF_ERROR(Reap());
  return fds[2].revents != 0;
}

absl::Status LocalClusterInit::NotReady() {
  std::string message = absl::StrCat(
      gate_.write.valid() ? "the frontend" : "an agent", " did not get ready within ",
      absl::FormatDuration(kStartTimeout), "; the frontend said:\n", daemons_[0].output.TakeAll());
  absl::StripTrailingAsciiWhitespace(&message);
  return absl::UnavailableError(message);
}

absl::Status LocalClusterInit::Reap() {
  signalfd_siginfo info;
  while (read(child_signals_.get(), &info, sizeof(info)) > 0) {
  }
  pid_t pid;
  int status = 0;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    const auto daemon = std::find_if(daemons_.begin(), daemons_.end(),
                                     [pid](const Daemon& each) { return each.pid == pid; });
    if (daemon == daemons_.end()) continue;
    daemon->output.Read();
    const std::string what = absl::StrCat(daemon->host, " ended: ", DescribeExit(status));
    if (!started_) return FailedStart(what, status, &daemon->output);
    ShowOutput(&*daemon);
    WriteToStderr(absl::StrCat("mpilaunch: ", what, "\n"));
    if (daemon == daemons_.begin()) return absl::UnavailableError(what);
  }
  return absl::OkStatus();
}

void LocalClusterInit::ShowOutput(Daemon* daemon) {
  if (!started_) return;
  const std::string lines = daemon->output.TakeWholeLines();
  for (absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    WriteToStderr(absl::StrCat(daemon->host, ": ", line, "\n"));
  }
}

absl::Status LocalClusterInit::ReportStarted() {
  const UniqueFd folder(open(kFrontendFolder, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return ErrnoStatus(kFrontendFolder);
  char text = kLocalStarted;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part = {&text, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = folder.get();
  std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  if (sendmsg(control_.get(), &message, MSG_NOSIGNAL) < 0) return ErrnoStatus("control socket");
  started_ = true;
  for (Daemon& daemon : daemons_) ShowOutput(&daemon);
  return absl::OkStatus();
}

void LocalClusterInit::ReportFailure(const absl::Status& status) {
  std::string message = {kLocalFailed, static_cast<char>(status.code())};
  message.append(status.message().data(),
                 std::min(status.message().size(), kMaxLocalReasonBytes - 2));
  send(control_.get(), message.data(), message.size(), MSG_NOSIGNAL);
  _exit(1);
}

bool ChangesDaemons(absl::string_view entry) {
  for (absl::string_view kept : {"MPILAUNCH_SLOTS=", "MPILAUNCH_PRELOAD=", "MPILAUNCH_STORE_BYTES=",
                                 "MPILAUNCH_LOG_FORMAT="}) {
    if (absl::StartsWith(entry, kept)) return false;
  }
  for (absl::string_view prefix : {"MPILAUNCH_", "OMPI_", "ORTE_", "PRTE_", "PMIX_", "PMI_",
                                   "SLURM_", "PBS_", "LSB_", "TMPDIR=", "TMP=", "TEMP="}) {
    if (absl::StartsWith(entry, prefix)) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> LocalDaemonEnvironment(const std::vector<std::string>& environment) {
  std::vector<std::string> kept = {"TMPDIR=/tmp"};
  for (const std::string& entry : environment) {
    if (!ChangesDaemons(entry)) kept.push_back(entry);
  }
  return kept;
}

void RunLocalClusterInit(const LocalClusterInitOptions& options, UniqueFd control) {
  LocalClusterInit(options, std::move(control)).Run();
}

}  // namespace mpilaunch
