#include "launcher/local_cluster.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "launcher/local_cluster_init.h"
#include "launcher/namespaces.h"

namespace mpilaunch {
namespace {

absl::Status Validate(const LocalClusterOptions& options) {
  if (options.workers < 1 || options.workers > kMaxLocalWorkers) {
    return absl::InvalidArgumentError(
        absl::StrCat("--local=", options.workers, ": the number of workers is from 1 to ",
                     kMaxLocalWorkers, ", as in: mpilaunch --local=2 hello -n 8"));
  }
  for (const char* program : {"mpilaunchd", "mpilaunch-agent", "mpilaunch-rsh"}) {
    const std::string path = absl::StrCat(options.binary_dir, "/", program);
    if (access(path.c_str(), X_OK) != 0) {
      return absl::NotFoundError(absl::StrCat("--local needs ", path, ": ", std::strerror(errno),
                                              "; it is installed or built next to mpilaunch"));
    }
  }
  return absl::OkStatus();
}

absl::Status WithAdvice(const absl::Status& status) {
  const std::string advice = NamespaceAdvice(status);
  const absl::string_view separator = advice.empty() ? "" : "; ";
  return absl::Status(status.code(), absl::StrCat(status.message(), separator, advice));
}

// A user namespace of its own only where it must be: groups and foreign files are not the same in
// it.
absl::StatusOr<pid_t> ForkInit(LocalClusterInitOptions* options) {
  constexpr int kNamespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC;
  absl::StatusOr<pid_t> pid = ForkIntoNamespaces(kNamespaces);
  if (!absl::IsPermissionDenied(pid.status())) return pid;
  options->in_user_namespace = true;
  return ForkIntoNamespaces(kNamespaces | CLONE_NEWUSER);
}

// One message with at most one descriptor; empty at the end of the stream.
std::string ReceiveMessage(int socket_fd, UniqueFd* descriptor) {
  std::string text(kMaxLocalReasonBytes + 1, '\0');
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part = {text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t size;
  do {
    size = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (size > 0 && header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    descriptor->reset(fd);
  }
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Start(
    const LocalClusterOptions& options) {
  MPILAUNCH_RETURN_IF_ERROR(Validate(options));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "--local: socketpair");
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  LocalClusterInitOptions init = {.cluster = options, .uid = geteuid(), .gid = getegid()};
  absl::StatusOr<pid_t> pid = ForkInit(&init);
  if (!pid.ok()) return WithAdvice(Annotate(pid.status(), "--local"));
  if (*pid == 0) {
    ours.reset();
    RunLocalClusterInit(init, std::move(theirs));
  }
  theirs.reset();
  auto cluster = std::unique_ptr<LocalCluster>(new LocalCluster(*pid, std::move(ours)));
  MPILAUNCH_RETURN_IF_ERROR(cluster->AwaitStart());
  return cluster;
}

absl::Status LocalCluster::AwaitStart() {
  const std::string message = ReceiveMessage(control_.get(), &socket_folder_);
  if (message.empty()) return absl::UnavailableError("--local: its first process was killed");
  if (message[0] == kLocalFailed && message.size() > 1) {
    const auto code = static_cast<absl::StatusCode>(message[1]);
    return WithAdvice(absl::Status(code, absl::StrCat("--local: ", message.substr(2))));
  }
  if (!socket_folder_.valid()) return absl::ResourceExhaustedError("--local: too many open files");
  socket_path_ = absl::StrCat("/proc/self/fd/", socket_folder_.get(), "/", kLocalSocketName);
  return absl::OkStatus();
}

LocalCluster::~LocalCluster() {
  // Process 1 of a process namespace is reaped when all others in it are.
  kill(init_, SIGKILL);
  while (waitpid(init_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace mpilaunch
