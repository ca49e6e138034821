#include "common/certificate_authority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "tests/unit/trust_testing.h"

namespace mpilaunch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

template <auto free_function>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free_function(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Request = std::unique_ptr<X509_REQ, Free<X509_REQ_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;

Bio From(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}
Certificate ParseCertificate(const std::string& pem) {
  return Certificate(PEM_read_bio_X509(From(pem).get(), nullptr, nullptr, nullptr));
}

// As `openssl x509 -text` prints it.
std::string Print(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  X509_print(bio.get(), certificate);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<size_t>(size)};
}

// A request of somebody who claims to be the frontend, signed by `signer`.
std::string PresumptuousRequest(EVP_PKEY* key, EVP_PKEY* signer) {
  const Request request(X509_REQ_new());
  X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("frontend"), -1, -1, 0);
  X509_REQ_set_pubkey(request.get(), key);
  STACK_OF(X509_EXTENSION)* const wishes = sk_X509_EXTENSION_new_null();
  sk_X509_EXTENSION_push(wishes, X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name,
                                                     "DNS:frontend.frontend.mpilaunch"));
  sk_X509_EXTENSION_push(
      wishes, X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE"));
  X509_REQ_add_extensions(request.get(), wishes);
  sk_X509_EXTENSION_pop_free(wishes, X509_EXTENSION_free);
  X509_REQ_sign(request.get(), signer, EVP_sha256());
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509_REQ(bio.get(), request.get());
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<size_t>(size)};
}

class CertificateAuthorityTest : public testing::Test {
 protected:
  absl::StatusOr<std::string> Sign(const std::string& csr_pem, const std::string& name = "w1") {
    return ca_->Sign(csr_pem, {ca_->cluster(), Role::kWorker, name}, now_, absl::Hours(1));
  }
  // LoadOrCreate's error after `damage` was done to a copy of the folder.
  template <typename Damage>
  absl::Status AfterDamage(Damage damage) {
    const std::string copy = folder_ / "damaged";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(folder_ / "ca", copy);
    damage(copy);
    return CertificateAuthority::LoadOrCreate(copy, now_).status();
  }

  const absl::Time now_ = absl::Now();
  const TemporaryFolder folder_;
  const std::unique_ptr<CertificateAuthority> ca_ = NewAuthority(folder_ / "ca");
};

TEST_F(CertificateAuthorityTest, FilesAreForTheirOwnerOnly) {
  struct stat facts;
  ASSERT_EQ(stat((folder_ / "ca").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0700u);
  for (const char* name : {"ca/ca.key", "ca/ca.crt", "ca/token.key"}) {
    ASSERT_EQ(stat((folder_ / name).c_str(), &facts), 0) << name;
    EXPECT_EQ(facts.st_mode & 07777, 0600u) << name;
  }
  const std::filesystem::directory_iterator files(folder_ / "ca");
  EXPECT_EQ(std::distance(begin(files), end(files)), 3);
}

TEST_F(CertificateAuthorityTest, RestartKeepsClusterCertificateAndTokens) {
  const std::string token = ca_->MintToken(Role::kWorker, now_ + absl::Hours(1));
  const auto again = NewAuthority(folder_ / "ca/");
  EXPECT_EQ(again->cluster(), ca_->cluster());
  EXPECT_EQ(again->certificate_pem(), ca_->certificate_pem());
  EXPECT_EQ(again->CheckToken(token, now_).value(), Role::kWorker);
}

TEST_F(CertificateAuthorityTest, AuthorityCanSignOnlyLeaves) {
  const Certificate certificate = ParseCertificate(ca_->certificate_pem());
  const std::string text = Print(certificate.get());
  EXPECT_THAT(text, HasSubstr("CA:TRUE, pathlen:0"));
  EXPECT_THAT(text, HasSubstr("Certificate Sign, CRL Sign"));
  EXPECT_THAT(text, HasSubstr("NIST CURVE: P-256"));
  EXPECT_THAT(text, HasSubstr("Subject: CN=mpilaunch CA " + ca_->cluster()));
  time_t in_nine_years = absl::ToTimeT(now_ + absl::Hours(24 * 365 * 9));
  time_t in_eleven_years = absl::ToTimeT(now_ + absl::Hours(24 * 365 * 11));
  EXPECT_EQ(X509_cmp_time(X509_get0_notAfter(certificate.get()), &in_nine_years), 1);
  EXPECT_EQ(X509_cmp_time(X509_get0_notAfter(certificate.get()), &in_eleven_years), -1);
}

TEST_F(CertificateAuthorityTest, LeafSaysWhoItIsAndIsSignedByTheAuthority) {
  const Certificate leaf = ParseCertificate(Sign(NewKeyAndRequest().value().csr_pem).value());
  const std::string text = Print(leaf.get());
  EXPECT_THAT(
      text, HasSubstr("URI:mpilaunch://" + ca_->cluster() + "/worker/w1, DNS:w1.worker.mpilaunch"));
  EXPECT_THAT(text, HasSubstr("CA:FALSE"));
  EXPECT_THAT(text, HasSubstr("TLS Web Server Authentication, TLS Web Client Authentication"));
  EXPECT_THAT(text, HasSubstr("Digital Signature\n"));
  const Certificate authority = ParseCertificate(ca_->certificate_pem());
  EXPECT_EQ(X509_verify(leaf.get(), X509_get0_pubkey(authority.get())), 1);
}

TEST_F(CertificateAuthorityTest, SerialsDiffer) {
  const std::string csr = NewKeyAndRequest().value().csr_pem;
  const Certificate one = ParseCertificate(Sign(csr).value());
  const Certificate two = ParseCertificate(Sign(csr).value());
  EXPECT_NE(ASN1_INTEGER_cmp(X509_get0_serialNumber(one.get()), X509_get0_serialNumber(two.get())),
            0);
}

TEST_F(CertificateAuthorityTest, ValidFromFiveMinutesBeforeAndNeverLongerThanTheAuthority) {
  const std::string csr = NewKeyAndRequest().value().csr_pem;
  const auto leaf =
      ca_->Sign(csr, {ca_->cluster(), Role::kWorker, "w1"}, now_, absl::InfiniteDuration());
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  const Certificate certificate = ParseCertificate(*leaf);
  const Certificate authority = ParseCertificate(ca_->certificate_pem());
  EXPECT_EQ(
      ASN1_TIME_compare(X509_get0_notAfter(certificate.get()), X509_get0_notAfter(authority.get())),
      0);
  EXPECT_EQ(ASN1_TIME_cmp_time_t(X509_get0_notBefore(certificate.get()),
                                 absl::ToTimeT(now_ - absl::Minutes(5))),
            0);
}

TEST_F(CertificateAuthorityTest, WishesInTheRequestAreIgnored) {
  const Key key(EVP_EC_gen("P-256"));
  const auto pem = Sign(PresumptuousRequest(key.get(), key.get()));
  ASSERT_TRUE(pem.ok()) << pem.status();
  const std::string text = Print(ParseCertificate(*pem).get());
  EXPECT_THAT(text, Not(HasSubstr("frontend")));
  EXPECT_THAT(text, AllOf(HasSubstr("Subject: CN=w1"), HasSubstr("CA:FALSE")));
  EXPECT_THAT(text, Not(HasSubstr("CA:TRUE")));
}

TEST_F(CertificateAuthorityTest, RequestSignedByAnotherKeyIsRefused) {
  const Key key(EVP_EC_gen("P-256"));
  const Key other(EVP_EC_gen("P-256"));
  const auto pem = Sign(PresumptuousRequest(key.get(), other.get()));
  EXPECT_TRUE(absl::IsInvalidArgument(pem.status())) << pem.status();
  EXPECT_THAT(std::string(pem.status().message()), HasSubstr("signature does not fit"));
}

TEST_F(CertificateAuthorityTest, OtherKindsOfKeyAreRefused) {
  const Key rsa(EVP_RSA_gen(1024));
  const Key p384(EVP_EC_gen("P-384"));
  for (EVP_PKEY* key : {rsa.get(), p384.get()}) {
    const auto pem = Sign(PresumptuousRequest(key, key));
    EXPECT_TRUE(absl::IsInvalidArgument(pem.status())) << pem.status();
    EXPECT_THAT(std::string(pem.status().message()), HasSubstr("not EC P-256"));
  }
}

TEST_F(CertificateAuthorityTest, TextThatIsNoRequestIsRefused) {
  const std::string csr = NewKeyAndRequest().value().csr_pem;
  for (const std::string& text : {std::string(), std::string("hello"),
                                  csr.substr(0, csr.size() / 2), ca_->certificate_pem()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Sign(text).status())) << text;
  }
}

TEST_F(CertificateAuthorityTest, SignsForItsOwnClusterOnly) {
  const auto pem = ca_->Sign(NewKeyAndRequest().value().csr_pem, {"deadbeef", Role::kWorker, "w1"},
                             now_, absl::Hours(1));
  EXPECT_TRUE(absl::IsInvalidArgument(pem.status())) << pem.status();
}

TEST_F(CertificateAuthorityTest, SignsUsableNamesOnly) {
  const std::string csr = NewKeyAndRequest().value().csr_pem;
  EXPECT_TRUE(Sign(csr, std::string(63, 'a')).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Sign(csr, std::string(64, 'a')).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Sign(csr, "a,URI:mpilaunch://x/frontend/y").status()));
}

TEST_F(CertificateAuthorityTest, ThreadsSignAtOnce) {
  const std::string csr = NewKeyAndRequest().value().csr_pem;
  std::vector<std::thread> threads;
  std::vector<int> signed_by(4, 0);
  for (int& count : signed_by) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) count += Sign(csr).ok();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(signed_by, testing::Each(50));
}

// Tokens -----------------------------------------------------------------------------------------

TEST_F(CertificateAuthorityTest, TokenCarriesTheRoleUntilItExpires) {
  const absl::Time expires = absl::FromUnixSeconds(1900000000);
  for (Role role : {Role::kWorker, Role::kClient}) {
    const std::string token = ca_->MintToken(role, expires);
    EXPECT_EQ(ca_->CheckToken(token, expires - absl::Seconds(1)).value(), role);
    const auto late = ca_->CheckToken(token, expires);
    EXPECT_TRUE(absl::IsUnauthenticated(late.status()));
    EXPECT_EQ(late.status().message(), "token expired at 2030-03-17T17:46:40+00:00");
  }
}

TEST_F(CertificateAuthorityTest, TokensOfOneRoleAndExpiryDiffer) {
  EXPECT_NE(ca_->MintToken(Role::kWorker, now_), ca_->MintToken(Role::kWorker, now_));
}

TEST_F(CertificateAuthorityTest, TokenAlteredAnywhereIsRefused) {
  const std::string token = ca_->MintToken(Role::kWorker, now_ + absl::Hours(1));
  for (size_t i = 0; i < token.size(); ++i) {
    std::string altered = token;
    altered[i] = altered[i] == 'A' ? 'B' : 'A';
    const auto role = ca_->CheckToken(altered, now_);
    ASSERT_TRUE(absl::IsUnauthenticated(role.status())) << i;
    ASSERT_EQ(role.status().message(), "token of another cluster or altered") << i;
  }
  for (const std::string& text :
       {std::string(), std::string("."), token.substr(1), token.substr(0, token.size() - 1),
        token + "A", token + ".", token.substr(0, token.find('.')), std::string(100000, '.')}) {
    ASSERT_TRUE(absl::IsUnauthenticated(ca_->CheckToken(text, now_).status())) << text;
  }
}

TEST_F(CertificateAuthorityTest, SealOfAnotherTokenIsRefused) {
  const std::vector<std::string> worker =
      absl::StrSplit(ca_->MintToken(Role::kWorker, now_ + absl::Hours(1)), '.');
  const std::vector<std::string> client =
      absl::StrSplit(ca_->MintToken(Role::kClient, now_ + absl::Hours(1)), '.');
  EXPECT_FALSE(ca_->CheckToken(absl::StrCat(client[0], ".", worker[1]), now_).ok());
}

TEST_F(CertificateAuthorityTest, TokenOfAnotherClusterIsRefused) {
  const auto other = NewAuthority(folder_ / "other");
  EXPECT_NE(other->cluster(), ca_->cluster());
  const auto role = ca_->CheckToken(other->MintToken(Role::kWorker, now_ + absl::Hours(1)), now_);
  EXPECT_EQ(role.status().message(), "token of another cluster or altered");
}

// Damage -----------------------------------------------------------------------------------------

TEST_F(CertificateAuthorityTest, TornFilesAreNamed) {
  for (const std::string name : {"ca.crt", "ca.key", "token.key"}) {
    const std::string whole = ReadWhole(folder_ / ("ca/" + name));
    for (size_t size : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 10}) {
      const absl::Status status = AfterDamage(
          [&](const std::string& copy) { Spill(copy + "/" + name, whole.substr(0, size)); });
      EXPECT_TRUE(absl::IsDataLoss(status)) << name << " " << size << ": " << status;
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("/damaged/" + name + " is torn"), HasSubstr("restore it")));
      EXPECT_EQ(ReadWhole(folder_ / ("damaged/" + name)), whole.substr(0, size))
          << "was overwritten";
    }
  }
}

TEST_F(CertificateAuthorityTest, LostKeysAreNotMadeAnew) {
  for (const std::string name : {"ca.key", "token.key"}) {
    const absl::Status status =
        AfterDamage([&](const std::string& copy) { std::filesystem::remove(copy + "/" + name); });
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("/damaged/" + name + " is missing"));
    EXPECT_FALSE(std::filesystem::exists(folder_ / ("damaged/" + name)));
  }
}

TEST_F(CertificateAuthorityTest, InterruptedMakingIsCompleted) {
  EXPECT_TRUE(AfterDamage([](const std::string& copy) {
                std::filesystem::remove(copy + "/ca.crt");
                std::filesystem::remove(copy + "/ca.key");
              }).ok());
  EXPECT_TRUE(
      AfterDamage([](const std::string& copy) { std::filesystem::remove(copy + "/ca.crt"); }).ok());
  // The same key is the same cluster: who had a certificate stays in.
  EXPECT_EQ(NewAuthority(folder_ / "damaged")->cluster(), ca_->cluster());
}

TEST_F(CertificateAuthorityTest, KeyOfAnotherAuthorityIsRefused) {
  NewAuthority(folder_ / "other");
  const absl::Status status = AfterDamage([&](const std::string& copy) {
    Spill(copy + "/ca.key", ReadWhole(folder_ / "other/ca.key"));
  });
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("ca.crt does not belong to ca.key"));
}

TEST_F(CertificateAuthorityTest, EndOfTheTenYearsIsTold) {
  const absl::Time late = now_ + absl::Hours(24 * 366 * 10);
  const auto loaded = CertificateAuthority::LoadOrCreate(folder_ / "ca", late);
  EXPECT_TRUE(absl::IsFailedPrecondition(loaded.status())) << loaded.status();
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("ca.crt was valid until"));
}

TEST_F(CertificateAuthorityTest, TwoFrontendsStartingAtOnceShareOneAuthority) {
  std::vector<std::thread> threads;
  std::vector<std::string> clusters(4);
  for (std::string& cluster : clusters) {
    threads.emplace_back([&] { cluster = NewAuthority(folder_ / "fresh")->cluster(); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(clusters, testing::Each(clusters[0]));
}

TEST_F(CertificateAuthorityTest, PlaceThatCannotBeWrittenIsNamed) {
  const auto made = CertificateAuthority::LoadOrCreate("/proc/nowhere/ca", now_);
  EXPECT_FALSE(made.ok());
  EXPECT_THAT(std::string(made.status().message()), HasSubstr("/proc/nowhere/ca"));
}

// Names ------------------------------------------------------------------------------------------

TEST(PeerIdentityTest, NamesThatCanBeUsed) {
  for (const std::string& name :
       {std::string("a"), std::string("9"), std::string("mpi-worker-0"), std::string("w_1"),
        std::string("node1.example.org"), std::string(63, 'x')}) {
    EXPECT_TRUE(ValidateName(name).ok()) << ValidateName(name);
  }
}

TEST(PeerIdentityTest, NamesThatCannot) {
  for (const std::string& name :
       {std::string(), std::string("../x"), std::string("a/b"), std::string("a..b"),
        std::string("."), std::string(".."), std::string("-a"), std::string("a-"),
        std::string("_a"), std::string("a."), std::string("Worker1"), std::string("a b"),
        std::string("a\nb"), std::string("a\0b", 3), std::string("*"), std::string("caf\xc3\xa9"),
        std::string(64, 'x'), std::string(100000, 'x')}) {
    const absl::Status status = ValidateName(name);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name;
    EXPECT_LT(status.message().size(), 400u);
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
  }
  EXPECT_THAT(std::string(ValidateName("Worker1").message()), HasSubstr("upper case"));
  EXPECT_THAT(std::string(ValidateName(std::string(64, 'x')).message()),
              HasSubstr("64 characters"));
}

TEST(PeerIdentityTest, UriThereAndBack) {
  const PeerIdentity identity{"04aeb2f5", Role::kClient, "node1.example.org"};
  EXPECT_EQ(IdentityUri(identity), "mpilaunch://04aeb2f5/client/node1.example.org");
  EXPECT_EQ(ParseIdentityUri(IdentityUri(identity)).value(), identity);
  for (const char* uri : {"", "mpilaunch://", "spiffe://c/worker/w", "mpilaunch://c/worker",
                          "mpilaunch:///worker/w", "mpilaunch://c/king/w", "mpilaunch://c/worker/",
                          "mpilaunch://c/worker/w/x", "mpilaunch://c/worker/W"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseIdentityUri(uri).status())) << uri;
  }
}

}  // namespace
}  // namespace mpilaunch
