// Mutual TLS for gRPC: credentials made from an identity, and the peer's identity read back.
#ifndef MPILAUNCH_COMMON_TLS_H_
#define MPILAUNCH_COMMON_TLS_H_

#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/certificate_authority.h"

namespace mpilaunch {

// What one process proves itself with. In memory only.
struct TlsIdentity {
  std::string key_pem;
  std::string certificate_pem;
  std::string ca_pem;
};

// A client certificate of the same CA is required by the TLS layer.
std::shared_ptr<grpc::ServerCredentials> MutualServerCredentials(const TlsIdentity& identity);
// For the enrol listener only: the caller has no certificate yet.
std::shared_ptr<grpc::ServerCredentials> EnrolServerCredentials(const TlsIdentity& identity);

// Both expect the server's certificate to carry ServerName(role, name); pass the arguments of
// ExpectServer to the channel.
std::shared_ptr<grpc::ChannelCredentials> MutualChannelCredentials(const TlsIdentity& identity);
std::shared_ptr<grpc::ChannelCredentials> EnrolChannelCredentials(const std::string& ca_pem);
grpc::ChannelArguments ExpectServer(Role role, const std::string& name);

// From the verified certificate's URI SAN. UNAUTHENTICATED when there is none or it is not ours.
absl::StatusOr<PeerIdentity> PeerOf(const grpc::AuthContext& context);
// PERMISSION_DENIED "needs role=frontend, caller is worker w1".
absl::Status RequireRole(const grpc::AuthContext& context, Role role);

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_TLS_H_
