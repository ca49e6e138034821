// What the tests of certificates, TLS and enrolment share.
#ifndef MPILAUNCH_TESTS_UNIT_TRUST_TESTING_H_
#define MPILAUNCH_TESTS_UNIT_TRUST_TESTING_H_

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "common/certificate_authority.h"
#include "common/tls.h"
#include "tests/support/temporary_folder.h"

namespace mpilaunch {

inline void Spill(const std::string& path, absl::string_view text) { std::ofstream(path) << text; }

inline std::unique_ptr<CertificateAuthority> NewAuthority(const std::string& folder) {
  auto authority = CertificateAuthority::LoadOrCreate(folder, absl::Now());
  EXPECT_TRUE(authority.ok()) << authority.status();
  return *std::move(authority);
}

inline TlsIdentity NewIdentity(const CertificateAuthority& ca, Role role, const std::string& name,
                               absl::Time now = absl::Now(),
                               absl::Duration lifetime = absl::Hours(1)) {
  KeyAndRequest made = NewKeyAndRequest().value();
  std::string certificate =
      ca.Sign(made.csr_pem, {ca.cluster(), role, name}, now, lifetime).value();
  return {std::move(made.key_pem), std::move(certificate), ca.certificate_pem()};
}

}  // namespace mpilaunch

#endif  // MPILAUNCH_TESTS_UNIT_TRUST_TESTING_H_
