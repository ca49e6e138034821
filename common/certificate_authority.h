// The frontend's own certificate authority, and the keys and requests of those who enrol.
#ifndef MPILAUNCH_COMMON_CERTIFICATE_AUTHORITY_H_
#define MPILAUNCH_COMMON_CERTIFICATE_AUTHORITY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/peer_identity.h"

namespace mpilaunch {

struct KeyAndRequest {
  std::string key_pem;  // EC P-256, never leaves the process that made it
  std::string csr_pem;  // without subject: the CA decides who this is
};
absl::StatusOr<KeyAndRequest> NewKeyAndRequest();

// INVALID_ARGUMENT unless `pem` begins with a whole certificate in PEM.
absl::Status CheckCertificatePem(absl::string_view pem);

class CertificateAuthority {
 public:
  // Loads ca.key, ca.crt and token.key from `folder`, or makes the folder (0700) and them (0600). A
  // making that was interrupted is completed. DATA_LOSS names the file that is torn, missing or
  // does not fit. FAILED_PRECONDITION: the CA's ten years are over at `now`.
  static absl::StatusOr<std::unique_ptr<CertificateAuthority>> LoadOrCreate(
      const std::string& folder, absl::Time now);
  virtual ~CertificateAuthority() = default;

  // All const calls are thread-safe.
  virtual const std::string& certificate_pem() const = 0;
  // 8 hex digits of the SHA-256 of the CA's public key.
  virtual const std::string& cluster() const = 0;
  // Checks the CSR's self-signature; takes only its public key, which must be EC P-256. Valid from
  // 5 minutes before `now` until `now` + `lifetime`, at most as long as the CA itself.
  // INVALID_ARGUMENT: CSR, name or `identity.cluster` is unusable.
  virtual absl::StatusOr<std::string> Sign(absl::string_view csr_pem, const PeerIdentity& identity,
                                           absl::Time now, absl::Duration lifetime) const = 0;
  // A join token is a signed statement (role, expiry in whole seconds); nothing is stored, so
  // restarts do not lose it.
  virtual std::string MintToken(Role role, absl::Time expires) const = 0;
  // UNAUTHENTICATED: "token expired at ..." or "token of another cluster or altered".
  virtual absl::StatusOr<Role> CheckToken(absl::string_view token, absl::Time now) const = 0;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_COMMON_CERTIFICATE_AUTHORITY_H_
