#include "common/certificate_authority.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/atomic_file.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

namespace mpilaunch {
namespace {

constexpr absl::Duration kAuthorityLifetime = absl::Hours(24 * 3653);  // ten years
constexpr absl::Duration kClockSkew = absl::Minutes(5);
constexpr size_t kTokenKeyBytes = 32;
constexpr size_t kMaxFileBytes = 64 * 1024;
constexpr absl::string_view kTokenVersion = "1";

template <auto free_function>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free_function(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Request = std::unique_ptr<X509_REQ, Free<X509_REQ_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>>;
using AlternativeNames = std::unique_ptr<GENERAL_NAMES, Free<GENERAL_NAMES_free>>;
using BigNumber = std::unique_ptr<BIGNUM, Free<BN_free>>;

// The last reason OpenSSL gave. Empties the thread's error queue, which gRPC reads as well.
std::string TakeOpenSslReason() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  std::string text = reason == nullptr ? "no reason given" : reason;
  ERR_clear_error();
  return text;
}

absl::Status OpenSslError(absl::string_view what) {
  return absl::InternalError(absl::StrCat("OpenSSL cannot ", what, ": ", TakeOpenSslReason()));
}

// Predictable keys would be worse than no process.
std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(size)) != 1) {
    abort();
  }
  return bytes;
}

// PEM
// ----------------------------------------------------------------------------------------------------

// Without it OpenSSL would ask for a passphrase on the terminal.
int RefusePassphrase(char*, int, int, void*) { return -1; }

Bio ReadFrom(absl::string_view text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

template <typename Write>
absl::StatusOr<std::string> ToPem(absl::string_view what, Write write) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr || write(bio.get()) != 1) return OpenSslError(absl::StrCat("write ", what));
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, size);
}

absl::StatusOr<std::string> KeyToPem(EVP_PKEY* key) {
  return ToPem("a key", [key](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

absl::StatusOr<std::string> CertificateToPem(X509* certificate) {
  return ToPem("a certificate",
               [certificate](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

Certificate CertificateFromPem(absl::string_view pem) {
  return Certificate(PEM_read_bio_X509(ReadFrom(pem).get(), nullptr, RefusePassphrase, nullptr));
}

// Certificates
// -------------------------------------------------------------------------------------------

absl::StatusOr<Key> NewKey() {
  Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslError("make a key");
  return key;
}

bool IsP256(EVP_PKEY* key) {
  char group[32] = "";
  return EVP_PKEY_is_a(key, "EC") == 1 &&
         EVP_PKEY_get_group_name(key, group, sizeof(group), nullptr) == 1 &&
         absl::string_view(group) == SN_X9_62_prime256v1;
}

absl::Time NotAfter(const X509* certificate) {
  struct tm until = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &until) != 1) return absl::InfinitePast();
  return absl::FromTimeT(timegm(&until));
}

bool SetSerial(X509* certificate) {
  // 127 random bits: positive in DER, and never the same twice without a list of what was given
  // out.
  const BigNumber serial(BN_new());
  return serial != nullptr &&
         BN_rand(serial.get(), 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool SetSubject(X509* certificate, const std::string& common_name) {
  return X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), NID_commonName,
                                    MBSTRING_ASC,
                                    reinterpret_cast<const unsigned char*>(common_name.data()),
                                    static_cast<int>(common_name.size()), -1, 0) == 1;
}

absl::StatusOr<Certificate> StartCertificate(EVP_PKEY* public_key, const std::string& common_name,
                                             absl::Time from, absl::Time until) {
  Certificate certificate(X509_new());
  if (certificate == nullptr || X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      !SetSerial(certificate.get()) || !SetSubject(certificate.get(), common_name) ||
      ASN1_TIME_set(X509_getm_notBefore(certificate.get()), absl::ToTimeT(from)) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(certificate.get()), absl::ToTimeT(until)) == nullptr ||
      X509_set_pubkey(certificate.get(), public_key) != 1) {
    return OpenSslError("begin a certificate");
  }
  return certificate;
}

// `value` is OpenSSL's configuration language: constants only, never a caller's text.
bool AddExtension(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool AddName(GENERAL_NAMES* names, int type, absl::string_view text) {
  GENERAL_NAME* name = GENERAL_NAME_new();
  ASN1_IA5STRING* value = ASN1_IA5STRING_new();
  if (name == nullptr || value == nullptr ||
      ASN1_STRING_set(value, text.data(), static_cast<int>(text.size())) != 1) {
    ASN1_IA5STRING_free(value);
    GENERAL_NAME_free(name);
    return false;
  }
  GENERAL_NAME_set0_value(name, type, value);
  if (sk_GENERAL_NAME_push(names, name) > 0) return true;
  GENERAL_NAME_free(name);
  return false;
}

bool AddAlternativeNames(X509* certificate, const PeerIdentity& identity) {
  const AlternativeNames names(GENERAL_NAMES_new());
  return names != nullptr && AddName(names.get(), GEN_URI, IdentityUri(identity)) &&
         AddName(names.get(), GEN_DNS, ServerName(identity.role, identity.name)) &&
         X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) ==
             1;
}

absl::StatusOr<std::string> ClusterOf(EVP_PKEY* authority_key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(authority_key, &der);
  if (size <= 0) return OpenSslError("encode the CA's public key");
  Sha256 sha256;
  sha256.Update(absl::string_view(reinterpret_cast<const char*>(der), size));
  OPENSSL_free(der);
  return sha256.Finish().sha256.substr(0, 8);
}

absl::StatusOr<std::string> SelfSign(EVP_PKEY* key, absl::Time now) {
  MPILAUNCH_ASSIGN_OR_RETURN(const std::string cluster, ClusterOf(key));
  MPILAUNCH_ASSIGN_OR_RETURN(const Certificate certificate,
                             StartCertificate(key, absl::StrCat("mpilaunch CA ", cluster),
                                              now - kClockSkew, now + kAuthorityLifetime));
  X509* const x509 = certificate.get();
  if (X509_set_issuer_name(x509, X509_get_subject_name(x509)) != 1 ||
      !AddExtension(x509, x509, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
      !AddExtension(x509, x509, NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !AddExtension(x509, x509, NID_subject_key_identifier, "hash") ||
      !AddExtension(x509, x509, NID_authority_key_identifier, "keyid:always") ||
      X509_sign(x509, key, EVP_sha256()) == 0) {
    return OpenSslError("make the CA's certificate");
  }
  return CertificateToPem(x509);
}

// The request's key, if the sender has it. Everything else in the request is its sender's wish.
absl::StatusOr<Key> ProvenKey(absl::string_view csr_pem) {
  const Request request(
      PEM_read_bio_X509_REQ(ReadFrom(csr_pem).get(), nullptr, RefusePassphrase, nullptr));
  if (request == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a certificate signing request in PEM: ", TakeOpenSslReason()));
  }
  Key key(X509_REQ_get_pubkey(request.get()));
  if (key == nullptr || !IsP256(key.get())) {
    ERR_clear_error();
    return absl::InvalidArgumentError("the certificate signing request's key is not EC P-256");
  }
  if (X509_REQ_verify(request.get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(
        "the certificate signing request's signature does not fit its key");
  }
  return key;
}

// Tokens: BASE64URL("1 ROLE EXPIRY NONCE") "." BASE64URL(HMAC-SHA256 of the first part)
// -------------------

std::string Hmac(absl::string_view key, absl::string_view message) {
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(message.data()), message.size(), mac,
           &size) == nullptr) {
    abort();  // as RandomBytes: never a token that anybody can make
  }
  return absl::WebSafeBase64Escape(absl::string_view(reinterpret_cast<char*>(mac), size));
}

bool SameInConstantTime(absl::string_view a, absl::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

struct TokenStatement {
  Role role;
  absl::Time expires;
};

absl::StatusOr<TokenStatement> ParseStatement(absl::string_view encoded) {
  std::string text;
  int64_t seconds = 0;
  if (!absl::WebSafeBase64Unescape(encoded, &text)) {
    return absl::UnauthenticatedError("token is not base64");
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ' ');
  if (parts.size() != 4 || parts[0] != kTokenVersion || !absl::SimpleAtoi(parts[2], &seconds)) {
    return absl::UnauthenticatedError("token was made by another version of the frontend");
  }
  MPILAUNCH_ASSIGN_OR_RETURN(const Role role, ParseRole(parts[1]));
  return TokenStatement{role, absl::FromUnixSeconds(seconds)};
}

// The authority
// ------------------------------------------------------------------------------------------

class FileAuthority final : public CertificateAuthority {
 public:
  FileAuthority(Key key, Certificate certificate, std::string certificate_pem, std::string cluster,
                std::string token_key)
      : key_(std::move(key)),
        certificate_(std::move(certificate)),
        certificate_pem_(std::move(certificate_pem)),
        cluster_(std::move(cluster)),
        token_key_(std::move(token_key)),
        not_after_(NotAfter(certificate_.get())) {}

  const std::string& certificate_pem() const override { return certificate_pem_; }
  const std::string& cluster() const override { return cluster_; }

  absl::StatusOr<std::string> Sign(absl::string_view csr_pem, const PeerIdentity& identity,
                                   absl::Time now, absl::Duration lifetime) const override {
    MPILAUNCH_RETURN_IF_ERROR(ValidateName(identity.name));
    if (identity.cluster != cluster_) {
      return absl::InvalidArgumentError(absl::StrCat("this is the CA of cluster ", cluster_,
                                                     ", it cannot sign for \"",
                                                     absl::CHexEscape(identity.cluster), "\""));
    }
    MPILAUNCH_ASSIGN_OR_RETURN(const Key public_key, ProvenKey(csr_pem));
    MPILAUNCH_ASSIGN_OR_RETURN(const Certificate leaf,
                               StartCertificate(public_key.get(), identity.name, now - kClockSkew,
                                                std::min(now + lifetime, not_after_)));
    X509* const x509 = leaf.get();
    X509* const issuer = certificate_.get();
    if (X509_set_issuer_name(x509, X509_get_subject_name(issuer)) != 1 ||
        !AddExtension(x509, issuer, NID_basic_constraints, "critical,CA:FALSE") ||
        !AddExtension(x509, issuer, NID_key_usage, "critical,digitalSignature") ||
        !AddExtension(x509, issuer, NID_ext_key_usage, "serverAuth,clientAuth") ||
        !AddExtension(x509, issuer, NID_subject_key_identifier, "hash") ||
        !AddExtension(x509, issuer, NID_authority_key_identifier, "keyid:always") ||
        !AddAlternativeNames(x509, identity) || X509_sign(x509, key_.get(), EVP_sha256()) == 0) {
      return OpenSslError(absl::StrCat("make the certificate of ", identity.name));
    }
    return CertificateToPem(x509);
  }

  std::string MintToken(Role role, absl::Time expires) const override {
    const std::string statement = absl::WebSafeBase64Escape(
        absl::StrFormat("%s %s %d %s", kTokenVersion, RoleName(role), absl::ToUnixSeconds(expires),
                        absl::BytesToHexString(RandomBytes(16))));
    return absl::StrCat(statement, ".", Hmac(token_key_, statement));
  }

  absl::StatusOr<Role> CheckToken(absl::string_view token, absl::Time now) const override {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(token, absl::MaxSplits('.', 1));
    // First the seal: what is read below was written by MintToken.
    if (!SameInConstantTime(parts.second, Hmac(token_key_, parts.first))) {
      return absl::UnauthenticatedError("token of another cluster or altered");
    }
    MPILAUNCH_ASSIGN_OR_RETURN(const TokenStatement statement, ParseStatement(parts.first));
    if (now >= statement.expires) {
      return absl::UnauthenticatedError(absl::StrCat(
          "token expired at ",
          absl::FormatTime(absl::RFC3339_sec, statement.expires, absl::UTCTimeZone())));
    }
    return statement.role;
  }

 private:
  const Key key_;
  const Certificate certificate_;
  const std::string certificate_pem_;
  const std::string cluster_;
  const std::string token_key_;
  const absl::Time not_after_;
};

// The files
// ----------------------------------------------------------------------------------------------

struct Paths {
  explicit Paths(const std::string& folder)
      : key(absl::StrCat(folder, "/ca.key")),
        certificate(absl::StrCat(folder, "/ca.crt")),
        token_key(absl::StrCat(folder, "/token.key")) {}
  const std::string key;
  const std::string certificate;
  const std::string token_key;
};

absl::Status Torn(const std::string& path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(
      path, " ", what, "; restore it from a backup, or remove the folder to begin a new",
      " cluster (its workers then need the new join bundle)"));
}

// Two frontends that start at once on one folder must not each make half of a CA.
absl::StatusOr<UniqueFd> LockFolder(const std::string& folder) {
  std::error_code error;  // what matters of it shows in mkdir
  std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), error);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make the folder ", folder));
  }
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || flock(fd.get(), LOCK_EX) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot lock the folder ", folder));
  }
  return fd;
}

template <typename Make>
absl::StatusOr<std::string> ReadOrMake(const std::string& path, Make make) {
  absl::StatusOr<std::string> contents = ReadSmallFile(path, kMaxFileBytes);
  if (!absl::IsNotFound(contents.status())) return contents;
  MPILAUNCH_ASSIGN_OR_RETURN(std::string made, make());
  MPILAUNCH_RETURN_IF_ERROR(WriteFileAtomically(path, made));
  return made;
}

bool Exists(const std::string& path) {
  struct stat facts;
  return stat(path.c_str(), &facts) == 0 || errno != ENOENT;
}

// ca.crt is written last and nobody can join before it is there. So without it, what is missing was
// never made and is made now; with it, what is missing was lost.
absl::Status CheckNothingLost(const Paths& paths) {
  if (!Exists(paths.certificate)) return absl::OkStatus();
  for (const std::string& path : {paths.key, paths.token_key}) {
    if (!Exists(path)) return Torn(path, "is missing while ca.crt is there");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> NewKeyPem() {
  MPILAUNCH_ASSIGN_OR_RETURN(const Key key, NewKey());
  return KeyToPem(key.get());
}

absl::StatusOr<std::string> NewTokenKeyText() {
  return absl::StrCat(absl::BytesToHexString(RandomBytes(kTokenKeyBytes)), "\n");
}

absl::StatusOr<Key> LoadKey(const Paths& paths) {
  MPILAUNCH_ASSIGN_OR_RETURN(const std::string pem, ReadOrMake(paths.key, NewKeyPem));
  Key key(PEM_read_bio_PrivateKey(ReadFrom(pem).get(), nullptr, RefusePassphrase, nullptr));
  ERR_clear_error();
  if (key == nullptr) return Torn(paths.key, "is torn: no private key in it");
  if (!IsP256(key.get())) return Torn(paths.key, "is not an EC P-256 key");
  return key;
}

absl::StatusOr<std::string> LoadTokenKey(const Paths& paths) {
  MPILAUNCH_ASSIGN_OR_RETURN(const std::string text, ReadOrMake(paths.token_key, NewTokenKeyText));
  const absl::string_view hex = absl::StripSuffix(text, "\n");
  if (!ValidateSha256(hex).ok()) {  // the same shape: 64 lower-case hex digits
    return Torn(paths.token_key, "is torn: 64 hex digits expected");
  }
  return absl::HexStringToBytes(hex);
}

absl::Status CheckAuthority(const Paths& paths, X509* certificate, EVP_PKEY* key, absl::Time now) {
  const bool fits = X509_check_private_key(certificate, key) == 1;
  ERR_clear_error();
  if (!fits) return Torn(paths.certificate, "does not belong to ca.key");
  if (X509_check_ca(certificate) == 0) return Torn(paths.certificate, "is not a CA certificate");
  if (now >= NotAfter(certificate)) {
    return absl::FailedPreconditionError(absl::StrCat(
        paths.certificate, " was valid until ",
        absl::FormatTime(absl::RFC3339_sec, NotAfter(certificate), absl::UTCTimeZone()),
        "; remove the folder to begin a new cluster (its workers then need the new join bundle)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<KeyAndRequest> NewKeyAndRequest() {
  MPILAUNCH_ASSIGN_OR_RETURN(const Key key, NewKey());
  const Request request(X509_REQ_new());
  if (request == nullptr || X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_pubkey(request.get(), key.get()) != 1 ||
      X509_REQ_sign(request.get(), key.get(), EVP_sha256()) == 0) {
    return OpenSslError("make a certificate signing request");
  }
  KeyAndRequest made;
  MPILAUNCH_ASSIGN_OR_RETURN(made.key_pem, KeyToPem(key.get()));
  MPILAUNCH_ASSIGN_OR_RETURN(made.csr_pem,
                             ToPem("a certificate signing request", [&request](BIO* bio) {
                               return PEM_write_bio_X509_REQ(bio, request.get());
                             }));
  return made;
}

absl::Status CheckCertificatePem(absl::string_view pem) {
  if (CertificateFromPem(pem) != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("not a whole certificate in PEM: ", TakeOpenSslReason()));
}

absl::StatusOr<std::unique_ptr<CertificateAuthority>> CertificateAuthority::LoadOrCreate(
    const std::string& given_folder, absl::Time now) {
  // Without a slash at its end, whose parent would be the folder itself.
  const std::string folder(absl::StripSuffix(given_folder, "/"));
  const Paths paths(folder);
  MPILAUNCH_ASSIGN_OR_RETURN(const UniqueFd lock, LockFolder(folder));
  MPILAUNCH_RETURN_IF_ERROR(CheckNothingLost(paths));
  MPILAUNCH_ASSIGN_OR_RETURN(std::string token_key, LoadTokenKey(paths));
  MPILAUNCH_ASSIGN_OR_RETURN(Key key, LoadKey(paths));
  MPILAUNCH_ASSIGN_OR_RETURN(
      std::string pem, ReadOrMake(paths.certificate, [&] { return SelfSign(key.get(), now); }));
  Certificate certificate = CertificateFromPem(pem);
  ERR_clear_error();
  if (certificate == nullptr) return Torn(paths.certificate, "is torn: no certificate in it");
  MPILAUNCH_RETURN_IF_ERROR(CheckAuthority(paths, certificate.get(), key.get(), now));
  MPILAUNCH_ASSIGN_OR_RETURN(std::string cluster, ClusterOf(key.get()));
  return std::make_unique<FileAuthority>(std::move(key), std::move(certificate), std::move(pem),
                                         std::move(cluster), std::move(token_key));
}

}  // namespace mpilaunch
