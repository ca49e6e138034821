#include "agent/session.h"

#include <grpcpp/create_channel.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"
#include "common/keepalive.h"

namespace mpilaunch {
namespace {

std::shared_ptr<grpc::Channel> Dial(const std::string& host, uint16_t port,
                                    const TlsIdentity& identity) {
  grpc::ChannelArguments arguments = ExpectServer(Role::kFrontend, kFrontendName);
  SetKeepalive(arguments);
  // Each attempt dials at once: the agent's own back-off decides when, not gRPC's for this address.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const std::string target = absl::StrContains(host, ":") ? absl::StrCat("[", host, "]:", port)
                                                          : absl::StrCat(host, ":", port);
  return grpc::CreateCustomChannel(target, MutualChannelCredentials(identity), arguments);
}

}  // namespace

Session::Session(const std::string& frontend_host, uint16_t control_port,
                 const TlsIdentity& identity)
    : channel_(Dial(frontend_host, control_port, identity)),
      stub_(v1::Membership::NewStub(channel_)) {}

absl::Status Session::Run(const v1::Registration& registration,
                          std::function<void(const std::string&)> on_welcome) {
  const auto stream = stub_->Session(&context_);
  v1::AgentMessage first;
  *first.mutable_registration() = registration;
  stream->Write(first);
  v1::FrontendMessage message;
  while (stream->Read(&message)) {
    if (!message.has_welcome()) continue;
    {
      // First of all: from now on whoever leaves says goodbye.
      absl::MutexLock lock(&mutex_);
      registered_ = stream.get();
    }
    on_welcome(message.welcome().frontend_instance());
  }
  {
    absl::MutexLock lock(&mutex_);
    registered_ = nullptr;
  }
  const absl::Status status = FromGrpc(stream->Finish());
  return status.ok() ? absl::UnavailableError("the frontend ended the session") : status;
}

void Session::Leave() {
  absl::MutexLock lock(&mutex_);
  if (registered_ == nullptr) return context_.TryCancel();
  v1::AgentMessage message;
  message.mutable_goodbye();
  registered_->Write(message);
  registered_->WritesDone();
}

void Session::Cancel() { context_.TryCancel(); }

}  // namespace mpilaunch
