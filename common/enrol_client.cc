#include "common/enrol_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/certificate_authority.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "enrolment.grpc.pb.h"

namespace mpilaunch {
namespace {

std::string HostAndPort(const std::string& host, uint16_t port) {
  const bool bare_ipv6 = absl::StrContains(host, ":") && !absl::StartsWith(host, "[");
  return bare_ipv6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

// A subchannel pool of its own: when the channel goes, nothing of gRPC keeps dialling in the
// background.
std::shared_ptr<grpc::Channel> Connect(const std::string& where, const std::string& ca_pem) {
  grpc::ChannelArguments arguments = ExpectServer(Role::kFrontend, kFrontendName);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(absl::StrCat("dns:///", where), EnrolChannelCredentials(ca_pem),
                                   arguments);
}

// "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.2:7432: Failed to connect
// to remote host: Connection refused" -> what stands after the code.
std::string LastError(const std::string& message) {
  constexpr absl::string_view kMarker = "last error: ";
  const size_t at = message.find(kMarker.data());
  if (at == std::string::npos) return message;
  absl::string_view last = absl::string_view(message).substr(at + kMarker.size());
  if (!absl::ConsumePrefix(&last, "UNKNOWN: ")) absl::ConsumePrefix(&last, "UNAVAILABLE: ");
  return std::string(last);
}

// gRPC 1.51 reports a refused certificate as UNAVAILABLE with OpenSSL's words (BoringSSL writes
// them in upper case with underscores); there is nothing but the text to tell it from a frontend
// that is not up.
absl::Status ExplainConnection(const grpc::Status& status, const std::string& where,
                               const JoinBundle& bundle) {
  const std::string& text = status.error_message();
  if (absl::StrContains(text, "certificate verify failed") ||
      absl::StrContains(text, "CERTIFICATE_VERIFY_FAILED")) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the frontend at ", where, " belongs to another cluster than this join bundle (",
        bundle.cluster,
        "); copy the bundle from that frontend, or correct --frontend. Clocks that differ by more ",
        "than 5 minutes look the same: compare `date` on both"));
  }
  if (absl::StrContains(text, "is not in peer certificate")) {
    return absl::FailedPreconditionError(absl::StrCat(
        "what listens at ", where, " is of this cluster but not its frontend; correct --frontend"));
  }
  if (absl::StrContains(text, "Ssl handshake failed")) {
    return absl::FailedPreconditionError(
        absl::StrCat("what listens at ", where, " is no mpilaunch frontend; correct --frontend (",
                     LastError(text), ")"));
  }
  return absl::UnavailableError(absl::StrCat("frontend not reachable at ", where, ": ",
                                             LastError(text),
                                             "; is mpilaunchd up and this its enrol port?"));
}

absl::Status Explain(const grpc::Status& status, const std::string& where,
                     const JoinBundle& bundle) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      return ExplainConnection(status, where, bundle);
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return absl::UnavailableError(
          absl::StrCat("frontend not reachable at ", where, ": no answer in time"));
    case grpc::StatusCode::UNAUTHENTICATED:
      return absl::UnauthenticatedError(absl::StrCat(
          "the frontend at ", where, " refuses the join bundle: ", status.error_message(),
          "; copy the bundle that it wrote last"));
    default:
      return Annotate(FromGrpc(status), absl::StrCat("the frontend at ", where, " refuses"));
  }
}

}  // namespace

absl::StatusOr<Enrolled> Enrol(const std::string& host, uint16_t enrol_port,
                               const JoinBundle& bundle, const std::string& name,
                               absl::Time deadline) {
  MPILAUNCH_RETURN_IF_ERROR(ValidateName(name));
  MPILAUNCH_ASSIGN_OR_RETURN(KeyAndRequest made, NewKeyAndRequest());
  v1::EnrolRequest request;
  request.set_token(bundle.token);
  request.set_name(name);
  request.set_csr_pem(made.csr_pem);

  const std::string where = HostAndPort(host, enrol_port);
  const auto stub = v1::Enrolment::NewStub(Connect(where, bundle.ca_pem));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  v1::EnrolResponse response;
  const grpc::Status status = stub->Enrol(&context, request, &response);
  if (!status.ok()) return Explain(status, where, bundle);
  return Enrolled{
      {std::move(made.key_pem), std::move(*response.mutable_certificate_pem()), bundle.ca_pem},
      static_cast<uint16_t>(response.control_port())};
}

}  // namespace mpilaunch
