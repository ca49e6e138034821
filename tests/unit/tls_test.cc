#include "common/tls.h"

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"
#include "enrolment.grpc.pb.h"
#include "tests/unit/trust_testing.h"

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;

// Answers with who called; as strict as `needed` says.
class WhoAmI final : public v1::Enrolment::CallbackService {
 public:
  explicit WhoAmI(Role needed) : needed_(needed) {}
  grpc::ServerUnaryReactor* Enrol(grpc::CallbackServerContext* context, const v1::EnrolRequest*,
                                  v1::EnrolResponse* response) override {
    const auto peer = PeerOf(*context->auth_context());
    if (peer.ok()) response->set_certificate_pem(IdentityUri(*peer));
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc(RequireRole(*context->auth_context(), needed_)));
    return reactor;
  }

 private:
  const Role needed_;
};

class TlsTest : public testing::Test {
 protected:
  ~TlsTest() override {
    if (server_ != nullptr) server_->Shutdown();
  }

  void Serve(const std::shared_ptr<grpc::ServerCredentials>& credentials) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }

  // One call over a fresh connection.
  absl::StatusOr<std::string> Call(const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                                   const std::string& expected_name = "server") {
    grpc::ChannelArguments arguments = ExpectServer(Role::kWorker, expected_name);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto channel =
        grpc::CreateCustomChannel(absl::StrCat("ipv4:127.0.0.1:", port_), credentials, arguments);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
    v1::EnrolResponse response;
    const grpc::Status status =
        v1::Enrolment::NewStub(channel)->Enrol(&context, v1::EnrolRequest(), &response);
    if (!status.ok()) return FromGrpc(status);
    return response.certificate_pem();
  }

  TlsIdentity Server(absl::Time now = absl::Now()) {
    return NewIdentity(*ca_, Role::kWorker, "server", now);
  }
  TlsIdentity Frontend(absl::Time now = absl::Now()) {
    return NewIdentity(*ca_, Role::kFrontend, "frontend", now);
  }

  const TemporaryFolder folder_;
  const std::unique_ptr<CertificateAuthority> ca_ = NewAuthority(folder_ / "ca");
  const std::unique_ptr<CertificateAuthority> other_ca_ = NewAuthority(folder_ / "other");
  WhoAmI service_{Role::kFrontend};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(TlsTest, ServerLearnsWhoCalls) {
  Serve(MutualServerCredentials(Server()));
  const auto answer = Call(MutualChannelCredentials(Frontend()));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, absl::StrCat("mpilaunch://", ca_->cluster(), "/frontend/frontend"));
}

TEST_F(TlsTest, AnotherRoleIsTurnedAway) {
  Serve(MutualServerCredentials(Server()));
  const auto answer = Call(MutualChannelCredentials(NewIdentity(*ca_, Role::kWorker, "w1")));
  EXPECT_TRUE(absl::IsPermissionDenied(answer.status())) << answer.status();
  EXPECT_EQ(answer.status().message(), "needs role=frontend, caller is worker w1");
}

TEST_F(TlsTest, ClientWithoutCertificateIsRefused) {
  Serve(MutualServerCredentials(Server()));
  const auto answer = Call(EnrolChannelCredentials(ca_->certificate_pem()));
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
}

TEST_F(TlsTest, ClientOfAnotherAuthorityIsRefused) {
  Serve(MutualServerCredentials(Server()));
  TlsIdentity stranger = NewIdentity(*other_ca_, Role::kFrontend, "frontend");
  stranger.ca_pem = ca_->certificate_pem();  // it may trust us, we do not trust it
  const auto answer = Call(MutualChannelCredentials(stranger));
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
}

TEST_F(TlsTest, ClientWithExpiredCertificateIsRefused) {
  Serve(MutualServerCredentials(Server()));
  const auto answer = Call(MutualChannelCredentials(Frontend(absl::Now() - absl::Hours(2))));
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
}

TEST_F(TlsTest, ClientWithCertificateOfTheFutureIsRefused) {
  Serve(MutualServerCredentials(Server()));
  const auto answer = Call(MutualChannelCredentials(Frontend(absl::Now() + absl::Hours(1))));
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
}

TEST_F(TlsTest, ClientWithSomebodyElsesCertificateIsRefused) {
  Serve(MutualServerCredentials(Server()));
  TlsIdentity thief = Frontend();
  thief.key_pem = NewKeyAndRequest().value().key_pem;
  EXPECT_FALSE(Call(MutualChannelCredentials(thief)).ok());
}

TEST_F(TlsTest, ServerOfAnotherAuthorityIsRefused) {
  Serve(MutualServerCredentials(NewIdentity(*other_ca_, Role::kWorker, "server")));
  const auto answer = Call(MutualChannelCredentials(Frontend()));
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("certificate verify failed"));
}

TEST_F(TlsTest, ServerWithExpiredCertificateIsRefused) {
  Serve(MutualServerCredentials(Server(absl::Now() - absl::Hours(2))));
  const auto answer = Call(MutualChannelCredentials(Frontend()));
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
}

TEST_F(TlsTest, ServerWithAnotherNameIsRefused) {
  Serve(MutualServerCredentials(Server()));
  const auto answer = Call(MutualChannelCredentials(Frontend()), "someone-else");
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
  EXPECT_THAT(std::string(answer.status().message()),
              HasSubstr("someone-else.worker.mpilaunch is not in peer certificate"));
}

TEST_F(TlsTest, ServerWithTheNameInAnotherRoleIsRefused) {
  Serve(MutualServerCredentials(NewIdentity(*ca_, Role::kClient, "server")));
  EXPECT_TRUE(absl::IsUnavailable(Call(MutualChannelCredentials(Frontend())).status()));
}

TEST_F(TlsTest, PlainTextClientIsRefused) {
  Serve(MutualServerCredentials(Server()));
  EXPECT_FALSE(Call(grpc::InsecureChannelCredentials()).ok());
}

TEST_F(TlsTest, CallerWithoutCertificateIsNobodyOnTheEnrolListener) {
  Serve(EnrolServerCredentials(Server()));
  const auto answer = Call(EnrolChannelCredentials(ca_->certificate_pem()));
  EXPECT_TRUE(absl::IsUnauthenticated(answer.status())) << answer.status();
}

// Where roots are not given, gRPC trusts this file; main lets it name our own CA.
TEST_F(TlsTest, RootsOfTheEnvironmentAreNotTrusted) {
  const char* const environment_roots = getenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH");
  ASSERT_NE(environment_roots, nullptr);
  const auto environment_ca = NewAuthority(std::string(environment_roots) + ".folder");
  ASSERT_EQ(environment_ca->certificate_pem(), ReadWhole(environment_roots));
  Serve(EnrolServerCredentials(NewIdentity(*environment_ca, Role::kWorker, "server")));
  // It would work if gRPC were asked so ...
  EXPECT_TRUE(absl::IsUnauthenticated(Call(grpc::SslCredentials({})).status()));
  // ... and does not with ours, neither beside other roots nor where ours were forgotten.
  EXPECT_TRUE(absl::IsUnavailable(Call(EnrolChannelCredentials(ca_->certificate_pem())).status()));
  EXPECT_FALSE(Call(EnrolChannelCredentials("")).ok());
  EXPECT_FALSE(Call(MutualChannelCredentials({})).ok());
}

}  // namespace
}  // namespace mpilaunch

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // gRPC reads the variable once, at its first use.
  const mpilaunch::TemporaryFolder folder;
  const std::string roots = folder / "roots.pem";
  mpilaunch::Spill(roots, mpilaunch::NewAuthority(roots + ".folder")->certificate_pem());
  setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", roots.c_str(), 1);
  return RUN_ALL_TESTS();
}
