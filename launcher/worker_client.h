// The frontend's warm line to one worker's agent, and one call to many workers at once.
#ifndef MPILAUNCH_LAUNCHER_WORKER_CLIENT_H_
#define MPILAUNCH_LAUNCHER_WORKER_CLIENT_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/time/time.h"
#include "blob.grpc.pb.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "common/tls.h"
#include "process.grpc.pb.h"

namespace mpilaunch {

// Thread-safe. Must not be destroyed on a gRPC callback thread (the channel would join it).
struct WorkerClient {
  // Starts connecting at once, so that the first job finds the channel warm.
  WorkerClient(std::string worker_name, const std::string& address, uint16_t port,
               const TlsIdentity& identity);

  const std::string name;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::Process::Stub> process;
  const std::unique_ptr<v1::Blob::Stub> blob;
};
using WorkerClients = std::vector<std::shared_ptr<WorkerClient>>;

template <typename Response>
struct WorkerReply {
  absl::Status status;  // already says "worker NAME: ..."
  Response response;
};

// Calls `start(client, context, response, done)` for every worker at once and returns when all have
// answered or `deadline` has passed. Replies stand in the order of `workers`.
template <typename Response, typename Start>
std::vector<WorkerReply<Response>> CallAll(const WorkerClients& workers, absl::Time deadline,
                                           Start start) {
  std::vector<WorkerReply<Response>> replies(workers.size());
  std::vector<grpc::ClientContext> contexts(workers.size());
  absl::BlockingCounter pending(static_cast<int>(workers.size()));
  for (size_t i = 0; i < workers.size(); ++i) {
    contexts[i].set_deadline(absl::ToChronoTime(deadline));
    start(*workers[i], &contexts[i], &replies[i].response, [&, i](const grpc::Status& status) {
      replies[i].status = Annotate(FromGrpc(status), absl::StrCat("worker ", workers[i]->name));
      pending.DecrementCount();
    });
  }
  pending.Wait();
  return replies;
}

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_WORKER_CLIENT_H_
