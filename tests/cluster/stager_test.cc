// Staging on a worker that drops what was pushed before it is used: its store was needed for
// others.
#include "launcher/stager.h"

#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "common/blob_service.h"
#include "tests/unit/trust_testing.h"

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;

// Stages as the agent does, as far as the store is concerned.
class ForgetfulProcess final : public v1::Process::Service {
 public:
  ForgetfulProcess(std::string store_folder, int times)
      : store_folder_(std::move(store_folder)), times_(times) {}

  grpc::Status Stage(grpc::ServerContext*, const v1::StageRequest* request,
                     v1::StageResponse*) override {
    ++calls;
    const std::string blob = store_folder_ + "/" + request->files(0).sha256();
    if (calls <= times_) std::filesystem::remove(blob);
    return std::filesystem::exists(blob)
               ? grpc::Status::OK
               : grpc::Status(grpc::StatusCode::ABORTED, "hello: no such blob");
  }

  int calls = 0;

 private:
  const std::string store_folder_;
  const int times_;
};

class StagerTest : public ::testing::Test {
 protected:
  // Stages one file on a worker that loses it so many times.
  absl::Status Stage(int times) {
    process_ = std::make_unique<ForgetfulProcess>(folder_ / "worker", times);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(
        "127.0.0.1:0", MutualServerCredentials(NewIdentity(*ca_, Role::kWorker, "w1")), &port);
    builder.RegisterService(process_.get());
    builder.RegisterService(&blob_service_);
    const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    const auto worker =
        std::make_shared<WorkerClient>("w1", "127.0.0.1", static_cast<uint16_t>(port),
                                       NewIdentity(*ca_, Role::kFrontend, "frontend"));

    StageJob job;
    job.cancelled = [] { return false; };
    job.request.set_job("1");
    v1::StagedFile* file = job.request.add_files();
    file->set_name("hello");
    const FileDigest digest = HashFile(program_).value();
    file->set_sha256(digest.sha256);
    file->set_size(digest.size);
    job.blobs[digest.sha256] = std::make_shared<const std::string>(program_);
    return StageOnWorkers({worker}, job);
  }

  TemporaryFolder folder_;
  const std::string program_ = folder_.Write("hello", "a program");
  std::unique_ptr<CertificateAuthority> ca_ = NewAuthority(folder_ / "ca");
  std::unique_ptr<BlobStore> blobs_ = BlobStore::Open(folder_ / "worker", 1 << 20).value();
  BlobService blob_service_{BlobService::Options{
      blobs_.get(), [](const grpc::AuthContext&) { return absl::OkStatus(); }}};
  std::unique_ptr<ForgetfulProcess> process_;
};

TEST_F(StagerTest, WhatAWorkerDroppedMeanwhileIsPushedAgain) {
  EXPECT_TRUE(Stage(0).ok());
  EXPECT_EQ(process_->calls, 1);
  const absl::Status status = Stage(2);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(process_->calls, 3);
}

TEST_F(StagerTest, AWorkerThatAlwaysDropsItIsGivenUp) {
  const absl::Status status = Stage(1000);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(process_->calls, 3);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker w1: hello: no such blob"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--store-bytes"));
}

}  // namespace
}  // namespace mpilaunch
