#include "common/blob_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/private_folder.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

// A blob lies in the folder under its SHA-256. Its access time is its last use. Its modification
// time is a stamp that only Commit sets: a blob with another one was altered through a hardlink, or
// was written in an earlier boot. So nothing needs an fsync: what the page cache had not yet
// written is lost with the kernel only, and then the stamp is another one; a second push costs less
// than an fsync in each.
//
// ETXTBSY: a program cannot be started while somebody has it open for writing, and a child holds
// copies of our descriptors from its fork to its exec. That cannot hit a blob: descriptors are
// O_CLOEXEC; only the init loop's one thread starts processes, and posix_spawn keeps it waiting
// until the child's exec. A job's first process is started after Commit has closed the file, so
// every child that might have had a copy has done its exec by then.

namespace mpilaunch {
namespace {

constexpr char kIncomingPrefix[] = ".incoming-";

bool IsFull(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

std::string Size(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " bytes");
  if (bytes < 1024 * 1024) return absl::StrFormat("%.1f KiB", static_cast<double>(bytes) / 1024);
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1024 * 1024));
}

absl::Status NoRoomOnDisk(const std::string& folder, uint64_t wanted) {
  struct statvfs disk {};
  const bool known = statvfs(folder.c_str(), &disk) == 0;
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room on the disk for a file of ", Size(wanted), " in ", folder,
      known ? absl::StrCat(": ", Size(uint64_t{disk.f_bavail} * disk.f_frsize), " free") : ""));
}

// Seconds since 1970, other ones in each boot; see the top of this file.
time_t BootStamp() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot_id;
  file >> boot_id;
  uint32_t stamp = 0;
  return absl::SimpleHexAtoi(boot_id.substr(0, 7), &stamp) ? stamp : 0;
}

absl::Status CopyFile(int from, int to, uint64_t size, const std::string& target) {
  for (uint64_t done = 0; done < size;) {
    const ssize_t copied = sendfile(to, from, nullptr, size - done);
    if (copied < 0 && errno == EINTR) continue;
    if (copied < 0 && IsFull(errno)) return NoRoomOnDisk(target.substr(0, target.rfind('/')), size);
    if (copied < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", target));
    if (copied == 0) return absl::DataLossError(absl::StrCat("blob of ", target, " is cut short"));
    done += copied;
  }
  return absl::OkStatus();
}

class BlobStoreImpl final : public BlobStore {
 public:
  BlobStoreImpl(std::string folder, uint64_t max_bytes, UniqueFd folder_fd)
      : folder_(std::move(folder)),
        max_bytes_(max_bytes),
        folder_fd_(std::move(folder_fd)),
        stamp_(BootStamp()) {}

  void RemoveLeftovers() {
    absl::MutexLock lock(&mutex_);
    for (const Entry& entry : List()) {
      if (entry.incoming || !IsAsCommitted(entry.info)) Unlink(entry.name);
    }
  }

  bool Has(const FileDigest& digest) override {
    absl::MutexLock lock(&mutex_);
    return Use(digest).ok();
  }

  absl::StatusOr<HeldBlob> Hold(const FileDigest& digest) override {
    absl::MutexLock lock(&mutex_);
    MPILAUNCH_RETURN_IF_ERROR(Use(digest));
    ++holders_[digest.sha256];
    return HeldBlob(new std::string(absl::StrCat(folder_, "/", digest.sha256)),
                    [this, sha256 = digest.sha256](const std::string* path) {
                      delete path;
                      LetGo(sha256);
                    });
  }

  absl::StatusOr<std::unique_ptr<Writer>> NewBlob(const FileDigest& digest) override;
  absl::Status Link(const FileDigest& digest, const std::string& target, bool executable) override;

 private:
  class WriterImpl;

  struct Entry {
    std::string name;
    bool incoming = false;
    struct stat info {};
  };
  struct Usage {
    uint64_t bytes = 0;         // of all blobs
    std::vector<Entry> unused;  // not held, no hardlink elsewhere; the least recently used last
  };

  // Regular files in the folder that are ours.
  std::vector<Entry> List() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Usage Survey() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // False: all that is left is in use.
  bool DropLeastRecentlyUsed(Usage& usage) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MakeRoomInStore(uint64_t size, Usage& usage) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MakeRoomOnDisk(int fd, uint64_t size, Usage& usage)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Unlink(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    unlinkat(folder_fd_.get(), name.c_str(), 0);
  }

  bool IsAsCommitted(const struct stat& info) const {
    return S_ISREG(info.st_mode) && info.st_mtim.tv_sec == stamp_ && info.st_mtim.tv_nsec == 0;
  }
  // OK, and the most recently used from now on, when the blob is there and as it was committed.
  absl::Status Use(const FileDigest& digest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes a verified file the blob. When another push of the same was quicker, that one stays.
  absl::Status Adopt(const std::string& temporary, const FileDigest& digest);
  void LetGo(const std::string& sha256) {
    absl::MutexLock lock(&mutex_);
    if (--holders_[sha256] == 0) holders_.erase(sha256);
  }
  void Release(uint64_t reserved) {
    absl::MutexLock lock(&mutex_);
    incoming_bytes_ -= reserved;
  }

  const std::string folder_;
  const uint64_t max_bytes_;
  const UniqueFd folder_fd_;  // holds the claim
  const time_t stamp_;
  absl::Mutex mutex_;  // also: nobody drops a blob that is being linked
  absl::flat_hash_map<std::string, int> holders_ ABSL_GUARDED_BY(mutex_);  // by SHA-256
  uint64_t incoming_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // announced by the writers that live
};

class BlobStoreImpl::WriterImpl final : public BlobStore::Writer {
 public:
  WriterImpl(BlobStoreImpl* store, FileDigest digest, std::string temporary, UniqueFd fd)
      : store_(store),
        digest_(std::move(digest)),
        temporary_(std::move(temporary)),
        fd_(std::move(fd)) {}

  ~WriterImpl() override {
    unlink(temporary_.c_str());  // after Commit it is not there
    store_->Release(digest_.size);
  }

  absl::Status Write(absl::string_view bytes) override {
    if (bytes.size() > digest_.size - written_) {
      return absl::DataLossError(
          absl::StrCat("more than the announced ", digest_.size, " bytes came"));
    }
    hash_.Update(bytes);
    written_ += bytes.size();
    while (!bytes.empty()) {
      const ssize_t written = write(fd_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0 && IsFull(errno)) return NoRoomOnDisk(store_->folder_, digest_.size);
      if (written < 0)
        return absl::ErrnoToStatus(errno, absl::StrCat("cannot write in ", store_->folder_));
      bytes.remove_prefix(written);
    }
    return absl::OkStatus();
  }

  absl::Status Commit() override {
    if (written_ != digest_.size) {
      return absl::DataLossError(
          absl::StrCat(written_, " bytes came, ", digest_.size, " were announced"));
    }
    const FileDigest got = hash_.Finish();
    if (!(got == digest_)) {
      return absl::DataLossError(
          absl::StrCat("the bytes have SHA-256 ", got.sha256, ", announced was ", digest_.sha256));
    }
    const timespec times[] = {absl::ToTimespec(absl::Now()), {store_->stamp_, 0}};
    if (fchmod(fd_.get(), 0400) != 0 || futimens(fd_.get(), times) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot finish ", temporary_));
    }
    fd_.reset();
    return store_->Adopt(temporary_, digest_);
  }

 private:
  BlobStoreImpl* const store_;
  const FileDigest digest_;
  const std::string temporary_;
  UniqueFd fd_;
  Sha256 hash_;
  uint64_t written_ = 0;
};

std::vector<BlobStoreImpl::Entry> BlobStoreImpl::List() {
  std::vector<Entry> entries;
  const auto close_folder = [](DIR* stream) { closedir(stream); };
  const std::unique_ptr<DIR, decltype(close_folder)> folder(opendir(folder_.c_str()), close_folder);
  if (folder == nullptr) return entries;
  while (const dirent* found = readdir(folder.get())) {
    Entry entry;
    entry.name = found->d_name;
    entry.incoming = absl::StartsWith(entry.name, kIncomingPrefix);
    if (!entry.incoming && !ValidateSha256(entry.name).ok()) continue;
    if (fstatat(folder_fd_.get(), found->d_name, &entry.info, AT_SYMLINK_NOFOLLOW) == 0) {
      entries.push_back(std::move(entry));
    }
  }
  return entries;
}

absl::Status BlobStoreImpl::Use(const FileDigest& digest) {
  MPILAUNCH_RETURN_IF_ERROR(ValidateSha256(digest.sha256));
  struct stat info {};
  if (fstatat(folder_fd_.get(), digest.sha256.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    return absl::NotFoundError(absl::StrCat("no blob ", digest.sha256, " in ", folder_));
  }
  if (!IsAsCommitted(info)) {
    Unlink(digest.sha256);
    return absl::NotFoundError(
        absl::StrCat("blob ", digest.sha256, " in ", folder_, " was altered"));
  }
  if (static_cast<uint64_t>(info.st_size) != digest.size) {
    return absl::NotFoundError(
        absl::StrCat("blob ", digest.sha256, " has ", info.st_size, " bytes, not ", digest.size));
  }
  const timespec times[] = {absl::ToTimespec(absl::Now()), {0, UTIME_OMIT}};
  utimensat(folder_fd_.get(), digest.sha256.c_str(), times, AT_SYMLINK_NOFOLLOW);
  return absl::OkStatus();
}

BlobStoreImpl::Usage BlobStoreImpl::Survey() {
  Usage usage;
  for (Entry& entry : List()) {
    if (entry.incoming) continue;  // counted by incoming_bytes_
    usage.bytes += entry.info.st_size;
    if (entry.info.st_nlink == 1 && !holders_.contains(entry.name))
      usage.unused.push_back(std::move(entry));
  }
  std::sort(usage.unused.begin(), usage.unused.end(), [](const Entry& a, const Entry& b) {
    return absl::TimeFromTimespec(a.info.st_atim) > absl::TimeFromTimespec(b.info.st_atim);
  });
  return usage;
}

bool BlobStoreImpl::DropLeastRecentlyUsed(Usage& usage) {
  if (usage.unused.empty()) return false;
  Unlink(usage.unused.back().name);
  usage.bytes -= usage.unused.back().info.st_size;
  usage.unused.pop_back();
  return true;
}

absl::Status BlobStoreImpl::MakeRoomInStore(uint64_t size, Usage& usage) {
  if (size > max_bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat("a file of ", Size(size), " is more than ",
                                                     folder_, " may hold, ", Size(max_bytes_)));
  }
  while (usage.bytes + incoming_bytes_ > max_bytes_ - size) {
    if (DropLeastRecentlyUsed(usage)) continue;
    return absl::ResourceExhaustedError(
        absl::StrCat("no room for a file of ", Size(size), " in ", folder_, ": it may hold ",
                     Size(max_bytes_), ", ", Size(usage.bytes), " are in use by running jobs and ",
                     Size(incoming_bytes_), " are arriving"));
  }
  return absl::OkStatus();
}

// Says "disk full" before the bytes travel, where the file system can tell.
absl::Status BlobStoreImpl::MakeRoomOnDisk(int fd, uint64_t size, Usage& usage) {
  while (size > 0 && fallocate(fd, 0, 0, static_cast<off_t>(size)) != 0) {
    if (errno == EOPNOTSUPP || errno == ENOSYS) break;
    if (errno == EINTR) continue;
    if (!IsFull(errno))
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot write in ", folder_));
    if (!DropLeastRecentlyUsed(usage)) return NoRoomOnDisk(folder_, size);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<BlobStore::Writer>> BlobStoreImpl::NewBlob(
    const FileDigest& digest) {
  MPILAUNCH_RETURN_IF_ERROR(ValidateSha256(digest.sha256));
  absl::MutexLock lock(&mutex_);
  Usage usage = Survey();
  MPILAUNCH_RETURN_IF_ERROR(MakeRoomInStore(digest.size, usage));
  std::string temporary = absl::StrCat(folder_, "/", kIncomingPrefix, "XXXXXX");
  UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid() && IsFull(errno)) return NoRoomOnDisk(folder_, digest.size);
  if (!fd.valid())
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make a file in ", folder_));
  if (absl::Status status = MakeRoomOnDisk(fd.get(), digest.size, usage); !status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  incoming_bytes_ += digest.size;
  return std::make_unique<WriterImpl>(this, digest, std::move(temporary), std::move(fd));
}

absl::Status BlobStoreImpl::Adopt(const std::string& temporary, const FileDigest& digest) {
  absl::MutexLock lock(&mutex_);
  if (Use(digest).ok()) return absl::OkStatus();
  if (renameat(AT_FDCWD, temporary.c_str(), folder_fd_.get(), digest.sha256.c_str()) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", temporary));
}

absl::Status BlobStoreImpl::Link(const FileDigest& digest, const std::string& target,
                                 bool executable) {
  UniqueFd blob;
  {
    absl::MutexLock lock(&mutex_);
    MPILAUNCH_RETURN_IF_ERROR(Use(digest));
    const char* name = digest.sha256.c_str();
    if (executable && fchmodat(folder_fd_.get(), name, 0500, 0) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", target, " executable"));
    }
    if (linkat(folder_fd_.get(), name, AT_FDCWD, target.c_str(), 0) == 0) return absl::OkStatus();
    // Another file system, one without hardlinks, or more links than it can count.
    if (errno != EXDEV && errno != EPERM && errno != EMLINK) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", target));
    }
    blob.reset(openat(folder_fd_.get(), name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  }
  const UniqueFd copy(
      open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, executable ? 0500 : 0400));
  if (!blob.valid() || !copy.valid())
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", target));
  absl::Status status = CopyFile(blob.get(), copy.get(), digest.size, target);
  if (!status.ok()) unlink(target.c_str());
  return status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(std::string folder, uint64_t max_bytes) {
  MPILAUNCH_ASSIGN_OR_RETURN(UniqueFd claim, ClaimPrivateFolder(folder));
  auto store = std::make_unique<BlobStoreImpl>(std::move(folder), max_bytes, std::move(claim));
  store->RemoveLeftovers();
  return store;
}

}  // namespace mpilaunch
