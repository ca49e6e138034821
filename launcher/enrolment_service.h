// The frontend's end of enrolment: join token and request in, certificate out.
#ifndef MPILAUNCH_LAUNCHER_ENROLMENT_SERVICE_H_
#define MPILAUNCH_LAUNCHER_ENROLMENT_SERVICE_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/certificate_authority.h"
#include "enrolment.grpc.pb.h"

namespace mpilaunch {

// For the enrol listener only. The name is the caller's wish, the role is the token's; a
// certificate for a name says nothing about whether another holder of it is alive (the registry
// does). Signing takes well under a millisecond, so it runs on gRPC's own thread.
class EnrolmentService final : public v1::Enrolment::CallbackService {
 public:
  struct Options {
    const CertificateAuthority* ca = nullptr;                        // outlives the service
    uint16_t control_port = 0;                                       // told to those who enrol
    std::function<absl::Time()> clock = [] { return absl::Now(); };  // thread-safe
    absl::Duration certificate_lifetime;
  };

  // What the enrol listener's ServerBuilder::SetMaxReceiveMessageSize should get: strangers talk to
  // it.
  static constexpr int kMaxMessageBytes = 16 * 1024;

  explicit EnrolmentService(Options options);

  grpc::ServerUnaryReactor* Enrol(grpc::CallbackServerContext* context,
                                  const v1::EnrolRequest* request,
                                  v1::EnrolResponse* response) override;

 private:
  // The identity that was certified.
  absl::StatusOr<PeerIdentity> Certify(const v1::EnrolRequest& request,
                                       v1::EnrolResponse& response) const;

  const Options options_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_ENROLMENT_SERVICE_H_
