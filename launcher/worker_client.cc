#include "launcher/worker_client.h"

#include <grpcpp/create_channel.h>

#include <utility>

#include "absl/strings/match.h"
#include "common/keepalive.h"

namespace mpilaunch {
namespace {

std::shared_ptr<grpc::Channel> Connect(const std::string& name, const std::string& address,
                                       uint16_t port, const TlsIdentity& identity) {
  grpc::ChannelArguments arguments = ExpectServer(Role::kWorker, name);
  SetKeepalive(arguments);
  // Workers may share an address and a port over time; a channel of its own never meets a stale
  // one.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const bool ipv6 = absl::StrContains(address, ":");
  return grpc::CreateCustomChannel(ipv6 ? absl::StrCat("ipv6:[", address, "]:", port)
                                        : absl::StrCat("ipv4:", address, ":", port),
                                   MutualChannelCredentials(identity), arguments);
}

}  // namespace

WorkerClient::WorkerClient(std::string worker_name, const std::string& address, uint16_t port,
                           const TlsIdentity& identity)
    : name(std::move(worker_name)),
      channel(Connect(name, address, port, identity)),
      process(v1::Process::NewStub(channel)),
      blob(v1::Blob::NewStub(channel)) {
  channel->GetState(/*try_to_connect=*/true);
}

}  // namespace mpilaunch
