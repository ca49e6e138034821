#include "launcher/enrolment_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

// Ours have about 130 and 350 bytes.
constexpr size_t kMaxTokenBytes = 1024;
constexpr size_t kMaxCsrBytes = 8 * 1024;

absl::Status CheckSizes(const v1::EnrolRequest& request) {
  if (request.token().size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("token of ", request.token().size(), " bytes, at most ", kMaxTokenBytes));
  }
  if (request.csr_pem().size() > kMaxCsrBytes) {
    return absl::InvalidArgumentError(absl::StrCat("certificate signing request of ",
                                                   request.csr_pem().size(), " bytes, at most ",
                                                   kMaxCsrBytes));
  }
  return absl::OkStatus();
}

}  // namespace

EnrolmentService::EnrolmentService(Options options) : options_(std::move(options)) {}

absl::StatusOr<PeerIdentity> EnrolmentService::Certify(const v1::EnrolRequest& request,
                                                       v1::EnrolResponse& response) const {
  MPILAUNCH_RETURN_IF_ERROR(CheckSizes(request));
  const absl::Time now = options_.clock();
  const CertificateAuthority& ca = *options_.ca;
  // The token first: a stranger learns nothing else and costs no signature check.
  MPILAUNCH_ASSIGN_OR_RETURN(const Role role, ca.CheckToken(request.token(), now));
  if (role == Role::kFrontend) {
    return absl::PermissionDeniedError("nobody enrols as a frontend");
  }
  const PeerIdentity identity{ca.cluster(), role, request.name()};
  MPILAUNCH_ASSIGN_OR_RETURN(std::string certificate, ca.Sign(request.csr_pem(), identity, now,
                                                              options_.certificate_lifetime));
  response.set_certificate_pem(std::move(certificate));
  response.set_control_port(options_.control_port);
  return identity;
}

grpc::ServerUnaryReactor* EnrolmentService::Enrol(grpc::CallbackServerContext* context,
                                                  const v1::EnrolRequest* request,
                                                  v1::EnrolResponse* response) {
  const absl::StatusOr<PeerIdentity> identity = Certify(*request, *response);
  if (identity.ok()) {
    LogInfo(absl::StrCat("enrolled ", RoleName(identity->role), "=", identity->name,
                         " peer=", context->peer()));
  } else {
    LogWarning(
        absl::StrCat("refused to enrol peer=", context->peer(), ": ", identity.status().message()));
  }
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(identity.status()));
  return reactor;
}

}  // namespace mpilaunch
