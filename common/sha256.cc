#include "common/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/unique_fd.h"

namespace mpilaunch {
namespace {

constexpr size_t kPieceBytes = 256 * 1024;
constexpr size_t kDigestBytes = 32;

// SHA-256 fails only when memory or OpenSSL itself is broken; a wrong digest would be worse than an
// end.
void Require(int openssl_result) {
  if (openssl_result != 1) abort();
}

bool IsLowerHexDigit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

}  // namespace

struct Sha256::Context {
  struct Free {
    void operator()(EVP_MD_CTX* digest) const { EVP_MD_CTX_free(digest); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> digest{EVP_MD_CTX_new()};
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  Require(EVP_DigestInit_ex(context_->digest.get(), EVP_sha256(), nullptr));
}

Sha256::~Sha256() = default;

void Sha256::Update(absl::string_view bytes) {
  Require(EVP_DigestUpdate(context_->digest.get(), bytes.data(), bytes.size()));
  size_ += bytes.size();
}

FileDigest Sha256::Finish() {
  std::string digest(kDigestBytes, '\0');
  Require(EVP_DigestFinal_ex(context_->digest.get(),
                             reinterpret_cast<unsigned char*>(digest.data()), nullptr));
  return FileDigest{absl::BytesToHexString(digest), size_};
}

absl::StatusOr<FileDigest> HashFile(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat facts;
  if (fstat(fd.get(), &facts) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at ", path));
  }
  if (!S_ISREG(facts.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a file"));
  }
  Sha256 sha256;
  const auto piece = std::make_unique<char[]>(kPieceBytes);
  for (;;) {
    const ssize_t got = read(fd.get(), piece.get(), kPieceBytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
    if (got == 0) return sha256.Finish();
    sha256.Update(absl::string_view(piece.get(), got));
  }
}

absl::Status ValidateSha256(absl::string_view sha256) {
  if (sha256.size() == 2 * kDigestBytes &&
      std::all_of(sha256.begin(), sha256.end(), IsLowerHexDigit)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", absl::CHexEscape(sha256.substr(0, 2 * kDigestBytes)),
                   "\" is not a SHA-256 (64 lower-case hex digits)"));
}

}  // namespace mpilaunch
