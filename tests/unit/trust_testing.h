// What the tests of certificates, TLS and enrolment share.
#ifndef MPILAUNCH_TESTS_UNIT_TRUST_TESTING_H_
#define MPILAUNCH_TESTS_UNIT_TRUST_TESTING_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "common/certificate_authority.h"
#include "common/tls.h"

namespace mpilaunch {

// A folder of its own, gone at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "mpilaunch-test-XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) abort();
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(absl::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

inline std::string Slurp(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

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
