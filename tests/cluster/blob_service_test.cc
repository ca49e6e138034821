#include "common/blob_service.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/blob_client.h"
#include "common/grpc_status.h"
#include "common/tls.h"
#include "tests/unit/trust_testing.h"

namespace mpilaunch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kPatience = absl::Minutes(1);
constexpr uint64_t kStoreBytes = 1 << 30;

std::vector<std::string> FilesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  return names;
}

// A worker's Blob service behind mTLS, as the agent serves it.
class BlobServiceTest : public testing::Test {
 protected:
  void SetUp() override { Serve(kStoreBytes); }

  void Serve(uint64_t store_bytes) {
    server_.reset();
    service_.reset();
    blobs_.reset();
    blobs_ = BlobStore::Open(store_folder_, store_bytes).value();
    service_ = std::make_unique<BlobService>(BlobService::Options{
        blobs_.get(),
        [](const grpc::AuthContext& peer) { return RequireRole(peer, Role::kFrontend); }});
    grpc::ServerBuilder builder;
    builder.AddListeningPort(
        "127.0.0.1:0", MutualServerCredentials(NewIdentity(*ca_, Role::kWorker, "w1")), &port_);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = StubOf(Role::kFrontend, "frontend");
  }

  std::unique_ptr<v1::Blob::Stub> StubOf(Role role, const std::string& name) {
    return v1::Blob::NewStub(grpc::CreateCustomChannel(
        absl::StrCat("127.0.0.1:", port_), MutualChannelCredentials(NewIdentity(*ca_, role, name)),
        ExpectServer(Role::kWorker, "w1")));
  }

  // A file that has `size` bytes of its own kind.
  FileDigest MakeFile(const std::string& name, size_t size, char kind = 'x') {
    std::string contents(size, kind);
    for (size_t i = 0; i < size; i += 997) contents[i] = static_cast<char>(i);
    Spill(temporary_ / name, contents);
    return HashFile(temporary_ / name).value();
  }

  absl::Status Push(const std::string& name, const FileDigest& digest,
                    const std::function<bool(uint64_t)>& progress = nullptr) {
    return PushBlob(*stub_, temporary_ / name, digest, absl::Now() + kPatience, progress);
  }

  v1::FindMissingResponse FindMissing(const std::vector<FileDigest>& digests) {
    v1::FindMissingRequest request;
    for (const FileDigest& digest : digests) {
      v1::Digest* const wanted = request.add_digests();
      wanted->set_sha256(digest.sha256);
      wanted->set_size(digest.size);
    }
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    v1::FindMissingResponse response;
    const grpc::Status status = stub_->FindMissing(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  // Ends the server, so that no handler runs any more, and looks what is left.
  std::vector<std::string> LeftInStore() {
    server_->Shutdown();
    server_.reset();
    return FilesIn(store_folder_);
  }

  TemporaryFolder temporary_;
  const std::string store_folder_ = temporary_ / "store";
  const std::unique_ptr<CertificateAuthority> ca_ = NewAuthority(temporary_ / "ca");
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<BlobService> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::unique_ptr<v1::Blob::Stub> stub_;
};

TEST_F(BlobServiceTest, WhatWasPushedIsNoLongerMissing) {
  const FileDigest pushed = MakeFile("pushed", 1000000);
  const FileDigest other = MakeFile("other", 10);
  EXPECT_EQ(FindMissing({pushed, other}).missing_size(), 2);
  const absl::Status status = Push("pushed", pushed);
  ASSERT_TRUE(status.ok()) << status;
  const v1::FindMissingResponse response = FindMissing({pushed, other});
  ASSERT_EQ(response.missing_size(), 1);
  EXPECT_EQ(response.missing(0).sha256(), other.sha256);
  EXPECT_EQ(response.missing(0).size(), 10u);
  EXPECT_EQ(ReadWhole(*blobs_->Hold(pushed).value()), ReadWhole(temporary_ / "pushed"));
}

TEST_F(BlobServiceTest, EverySizeAroundTheChunkArrives) {
  for (const size_t size : {0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1}) {
    const FileDigest digest = MakeFile("file", size);
    const absl::Status status = Push("file", digest);
    EXPECT_TRUE(status.ok()) << size << ": " << status;
    EXPECT_TRUE(blobs_->Has(digest)) << size;
  }
}

TEST_F(BlobServiceTest, ProgressCountsUpToTheSize) {
  const FileDigest digest = MakeFile("file", 600000);
  std::vector<uint64_t> seen;
  ASSERT_TRUE(Push("file", digest, [&](uint64_t sent) {
                seen.push_back(sent);
                return true;
              }).ok());
  EXPECT_THAT(seen, testing::ElementsAre(0, 262144, 524288, 600000));
}

TEST_F(BlobServiceTest, OnlyTheFrontendMayPush) {
  const FileDigest digest = MakeFile("file", 10);
  for (const Role role : {Role::kWorker, Role::kClient}) {
    stub_ = StubOf(role, "other");
    const absl::Status status = Push("file", digest);
    EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
    grpc::ClientContext context;
    v1::FindMissingResponse response;
    EXPECT_EQ(stub_->FindMissing(&context, {}, &response).error_code(),
              grpc::StatusCode::PERMISSION_DENIED);
  }
  EXPECT_FALSE(blobs_->Has(digest));
}

TEST_F(BlobServiceTest, WrongDigestIsDataLossAndLeavesNothing) {
  FileDigest digest = MakeFile("file", 1000000);
  digest.sha256 = std::string(64, 'a');
  const absl::Status status = Push("file", digest);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("file changed while it was sent"));
  EXPECT_THAT(LeftInStore(), IsEmpty());
}

TEST_F(BlobServiceTest, AFileThatShrinksWhileItIsSent) {
  const FileDigest digest = MakeFile("file", 3000000);
  const absl::Status status = Push("file", digest, [&](uint64_t sent) {
    return sent == 0 || truncate((temporary_ / "file").c_str(), 1000000) == 0;
  });
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(temporary_ / "file"),
                                                   HasSubstr("1000000 bytes now, 3000000 before")));
  EXPECT_THAT(LeftInStore(), IsEmpty());
}

TEST_F(BlobServiceTest, AFileThatGrowsWhileItIsSent) {
  const FileDigest digest = MakeFile("file", 3000000);
  const absl::Status status = Push("file", digest, [&](uint64_t sent) {
    return sent == 0 || truncate((temporary_ / "file").c_str(), 30000000) == 0;
  });
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(LeftInStore(), IsEmpty());
}

TEST_F(BlobServiceTest, AMissingFileIsNotFound) {
  const absl::Status status = Push("none", {std::string(64, 'a'), 10});
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

TEST_F(BlobServiceTest, ACancelledPushLeavesNothing) {
  const FileDigest digest = MakeFile("file", 3000000);
  const absl::Status status = Push("file", digest, [](uint64_t sent) { return sent < 1000000; });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_THAT(LeftInStore(), IsEmpty());
}

TEST_F(BlobServiceTest, APusherThatDiesLeavesNothing) {
  const FileDigest digest = MakeFile("file", 3000000);
  grpc::ClientContext context;
  v1::PushResponse response;
  const auto writer = stub_->Push(&context, &response);
  v1::PushRequest request;
  request.mutable_header()->set_sha256(digest.sha256);
  request.mutable_header()->set_size(digest.size);
  ASSERT_TRUE(writer->Write(request));
  request.set_chunk(std::string(500000, 'x'));
  ASSERT_TRUE(writer->Write(request));
  context.TryCancel();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_THAT(LeftInStore(), IsEmpty());
}

TEST_F(BlobServiceTest, ADeadlineEndsThePush) {
  const FileDigest digest = MakeFile("file", 10);
  const absl::Status status =
      PushBlob(*stub_, temporary_ / "file", digest, absl::Now() - absl::Seconds(1), nullptr);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
}

TEST_F(BlobServiceTest, AStoreThatIsTooSmallSaysSoEarly) {
  Serve(1000000);
  const FileDigest digest = MakeFile("file", 100000000);
  uint64_t most = 0;
  const absl::Status status = Push("file", digest, [&](uint64_t sent) {
    most = sent;
    return true;
  });
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(store_folder_));
  EXPECT_LT(most, digest.size / 2);
}

TEST_F(BlobServiceTest, StreamsThatAreNoPushAreRefused) {
  v1::PushRequest header;
  header.mutable_header()->set_sha256(std::string(64, 'a'));
  header.mutable_header()->set_size(5);
  v1::PushRequest chunk;
  chunk.set_chunk("hello");
  v1::PushRequest path = header;
  path.mutable_header()->set_sha256("../../../etc/passwd");
  const std::vector<std::vector<v1::PushRequest>> streams = {
      {}, {chunk}, {v1::PushRequest()}, {header, header}, {path}};
  for (const std::vector<v1::PushRequest>& stream : streams) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    v1::PushResponse response;
    const auto writer = stub_->Push(&context, &response);
    for (const v1::PushRequest& request : stream) writer->Write(request);
    writer->WritesDone();
    EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT) << stream.size();
  }
  EXPECT_THAT(LeftInStore(), IsEmpty());
}

TEST_F(BlobServiceTest, MalformedDigestsAreRefused) {
  v1::FindMissingRequest request;
  request.add_digests()->set_sha256("../x");
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
  v1::FindMissingResponse response;
  EXPECT_EQ(stub_->FindMissing(&context, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(BlobServiceTest, FourPushesOfOneFileAtOnce) {
  const FileDigest digest = MakeFile("file", 5000000);
  std::vector<absl::Status> statuses(4);
  std::vector<std::thread> threads;
  for (absl::Status& status : statuses)
    threads.emplace_back([&] { status = Push("file", digest); });
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(ReadWhole(*blobs_->Hold(digest).value()), ReadWhole(temporary_ / "file"));
  EXPECT_THAT(LeftInStore(), testing::ElementsAre(digest.sha256));
}

TEST_F(BlobServiceTest, HundredMegabytes) {
  const FileDigest digest = MakeFile("file", 100 * 1000 * 1000);
  const absl::Time begin = absl::Now();
  const absl::Status status = Push("file", digest);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(blobs_->Has(digest));
  std::printf("100 MB over mTLS in %.3f s: %.0f MB/s\n", seconds, 100 / seconds);
  RecordProperty("megabytes_per_second", static_cast<int>(100 / seconds));
}

}  // namespace
}  // namespace mpilaunch
