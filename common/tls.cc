#include "common/tls.h"

#include <grpc/grpc_security_constants.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

// Empty roots would mean "what the environment or the system trusts" to gRPC; ours are always
// explicit, so without any, nobody is trusted.
std::string ExplicitRoots(const std::string& ca_pem) { return ca_pem.empty() ? "\n" : ca_pem; }

std::shared_ptr<grpc::ServerCredentials> ServerCredentialsFor(
    const TlsIdentity& identity, grpc_ssl_client_certificate_request_type request) {
  grpc::SslServerCredentialsOptions options(request);
  options.pem_root_certs = ExplicitRoots(identity.ca_pem);
  options.pem_key_cert_pairs.push_back({identity.key_pem, identity.certificate_pem});
  return grpc::SslServerCredentials(options);
}

}  // namespace

// gRPC 1.51 offers TLS 1.2 and 1.3 and has no option for the lower bound; two peers of ours agree
// on 1.3.

std::shared_ptr<grpc::ServerCredentials> MutualServerCredentials(const TlsIdentity& identity) {
  return ServerCredentialsFor(identity, GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
}

std::shared_ptr<grpc::ServerCredentials> EnrolServerCredentials(const TlsIdentity& identity) {
  return ServerCredentialsFor(identity, GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
}

std::shared_ptr<grpc::ChannelCredentials> MutualChannelCredentials(const TlsIdentity& identity) {
  return grpc::SslCredentials(
      {ExplicitRoots(identity.ca_pem), identity.key_pem, identity.certificate_pem});
}

std::shared_ptr<grpc::ChannelCredentials> EnrolChannelCredentials(const std::string& ca_pem) {
  return grpc::SslCredentials({ExplicitRoots(ca_pem), "", ""});
}

grpc::ChannelArguments ExpectServer(Role role, const std::string& name) {
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(ServerName(role, name));
  // Cluster traffic never goes through the http_proxy of the environment.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

absl::StatusOr<PeerIdentity> PeerOf(const grpc::AuthContext& context) {
  const std::vector<grpc::string_ref> uris =
      context.FindPropertyValues(GRPC_PEER_URI_PROPERTY_NAME);
  if (!context.IsPeerAuthenticated() || uris.size() != 1) {
    return absl::UnauthenticatedError("the caller showed no certificate of this cluster");
  }
  absl::StatusOr<PeerIdentity> identity =
      ParseIdentityUri(absl::string_view(uris[0].data(), uris[0].size()));
  if (identity.ok()) return identity;
  return absl::UnauthenticatedError(absl::StrCat(
      "the caller's certificate names nobody of a cluster: ", identity.status().message()));
}

absl::Status RequireRole(const grpc::AuthContext& context, Role role) {
  MPILAUNCH_ASSIGN_OR_RETURN(const PeerIdentity caller, PeerOf(context));
  if (caller.role == role) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("needs role=", RoleName(role), ", caller is ",
                                                  RoleName(caller.role), " ", caller.name));
}

}  // namespace mpilaunch
