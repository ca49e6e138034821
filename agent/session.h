// The agent's life line to the frontend: one gRPC stream that carries the registration and then
// stays open.
#ifndef MPILAUNCH_AGENT_SESSION_H_
#define MPILAUNCH_AGENT_SESSION_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/tls.h"
#include "membership.grpc.pb.h"

namespace mpilaunch {

class Session {
 public:
  Session(const std::string& frontend_host, uint16_t control_port, const TlsIdentity& identity);

  // Registers and blocks until the session ends; says why it did. `on_welcome(frontend instance)`
  // runs once, when the frontend has accepted the registration. Once per object.
  absl::Status Run(const v1::Registration& registration,
                   std::function<void(const std::string&)> on_welcome);

  // Any thread. Says goodbye, so that the frontend does not count the worker as lost, and ends Run
  // once the frontend has answered. Cancel ends it at once.
  void Leave();
  void Cancel();

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Membership::Stub> stub_;
  grpc::ClientContext context_;
  absl::Mutex mutex_;
  // The stream of Run, once the registration was accepted.
  grpc::ClientReaderWriter<v1::AgentMessage, v1::FrontendMessage>* registered_
      ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_SESSION_H_
