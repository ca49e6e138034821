// Enrolment from end to end: the real client against the real service on a loopback port.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/enrol_client.h"
#include "common/grpc_status.h"
#include "common/unique_fd.h"
#include "launcher/enrolment_service.h"
#include "tests/unit/trust_testing.h"

// c-ares 1.18 forgets a few bytes per name that it finds in /etc/hosts; not ours to free.
extern "C" const char* __lsan_default_suppressions() { return "leak:libcares"; }

namespace mpilaunch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint16_t kControlPort = 4711;

// A server with the enrolment service.
class EnrolListener {
 public:
  EnrolListener(const CertificateAuthority& ca,
                const std::shared_ptr<grpc::ServerCredentials>& credentials)
      : service_(OptionsFor(ca)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port_);
    builder.SetMaxReceiveMessageSize(EnrolmentService::kMaxMessageBytes);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  // As the frontend has it.
  explicit EnrolListener(const CertificateAuthority& ca)
      : EnrolListener(ca, EnrolServerCredentials(NewIdentity(ca, Role::kFrontend, kFrontendName))) {
  }
  ~EnrolListener() { server_->Shutdown(); }

  uint16_t port() const { return static_cast<uint16_t>(port_); }

 private:
  static EnrolmentService::Options OptionsFor(const CertificateAuthority& ca) {
    EnrolmentService::Options options;
    options.ca = &ca;
    options.control_port = kControlPort;
    options.certificate_lifetime = absl::Hours(1);
    return options;
  }

  EnrolmentService service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

JoinBundle BundleOf(const CertificateAuthority& ca, Role role = Role::kWorker,
                    absl::Time expires = absl::Now() + absl::Hours(1)) {
  JoinBundle bundle;
  bundle.cluster = ca.cluster();
  bundle.role = role;
  bundle.token = ca.MintToken(role, expires);
  bundle.expires = expires;
  bundle.ca_pem = ca.certificate_pem();
  return bundle;
}

class EnrolmentTest : public testing::Test {
 protected:
  absl::StatusOr<Enrolled> EnrolAt(uint16_t port, const JoinBundle& bundle,
                                   const std::string& name = "w1",
                                   absl::Duration patience = absl::Seconds(20)) {
    return Enrol("127.0.0.1", port, bundle, name, absl::Now() + patience);
  }
  static std::string MessageOf(const absl::StatusOr<Enrolled>& result) {
    return std::string(result.status().message());
  }
  // The service's answer to a request that the client would not send.
  absl::Status Raw(const EnrolListener& listener, const v1::EnrolRequest& request) {
    grpc::ClientContext context;
    v1::EnrolResponse response;
    const auto channel = grpc::CreateCustomChannel(absl::StrCat("ipv4:127.0.0.1:", listener.port()),
                                                   EnrolChannelCredentials(ca_->certificate_pem()),
                                                   ExpectServer(Role::kFrontend, kFrontendName));
    return FromGrpc(v1::Enrolment::NewStub(channel)->Enrol(&context, request, &response));
  }
  v1::EnrolRequest GoodRequest() {
    v1::EnrolRequest request;
    request.set_token(BundleOf(*ca_).token);
    request.set_name("w1");
    request.set_csr_pem(NewKeyAndRequest().value().csr_pem);
    return request;
  }

  const TemporaryFolder folder_;
  const std::unique_ptr<CertificateAuthority> ca_ = NewAuthority(folder_ / "ca");
  const std::unique_ptr<CertificateAuthority> other_ca_ = NewAuthority(folder_ / "other");
};

// Whom a client sees on a server that shows `identity`.
absl::StatusOr<PeerIdentity> SeenByClient(const CertificateAuthority& ca,
                                          const TlsIdentity& identity, Role role,
                                          const std::string& name) {
  const EnrolListener server(ca, MutualServerCredentials(identity));
  const auto channel = grpc::CreateCustomChannel(
      absl::StrCat("ipv4:127.0.0.1:", server.port()),
      MutualChannelCredentials(NewIdentity(ca, Role::kFrontend, kFrontendName)),
      ExpectServer(role, name));
  grpc::ClientContext context;
  v1::EnrolResponse response;
  const grpc::Status status =
      v1::Enrolment::NewStub(channel)->Enrol(&context, v1::EnrolRequest(), &response);
  // The service's own refusal of the empty token: TLS let the call through.
  if (status.error_code() != grpc::StatusCode::UNAUTHENTICATED) return FromGrpc(status);
  return PeerOf(*context.auth_context());
}

TEST_F(EnrolmentTest, GivesAnIdentityThatMutualTlsAccepts) {
  const EnrolListener listener(*ca_);
  const auto worker = EnrolAt(listener.port(), BundleOf(*ca_));
  ASSERT_TRUE(worker.ok()) << worker.status();
  EXPECT_EQ(worker->control_port, kControlPort);
  const auto seen = SeenByClient(*ca_, worker->identity, Role::kWorker, "w1");
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(*seen, (PeerIdentity{ca_->cluster(), Role::kWorker, "w1"}));
}

TEST_F(EnrolmentTest, RoleIsTheTokensWhateverTheBundleSays) {
  const EnrolListener listener(*ca_);
  JoinBundle bundle = BundleOf(*ca_, Role::kClient);
  bundle.role = Role::kFrontend;
  const auto client = EnrolAt(listener.port(), bundle, "laptop");
  ASSERT_TRUE(client.ok()) << client.status();
  const auto seen = SeenByClient(*ca_, client->identity, Role::kClient, "laptop");
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(seen->role, Role::kClient);
}

TEST_F(EnrolmentTest, NobodyEnrolsAsFrontend) {
  const EnrolListener listener(*ca_);
  const auto result = EnrolAt(listener.port(), BundleOf(*ca_, Role::kFrontend));
  EXPECT_TRUE(absl::IsPermissionDenied(result.status())) << result.status();
}

// The client finds the frontend ------------------------------------------------------------------

TEST_F(EnrolmentTest, FrontendIsFoundByNameToo) {
  const EnrolListener listener(*ca_);
  const auto result =
      Enrol("localhost", listener.port(), BundleOf(*ca_), "w1", absl::Now() + absl::Seconds(20));
  EXPECT_TRUE(result.ok()) << result.status();
}

// A TCP port on 127.0.0.1 that speaks no TLS.
class PlainPort {
 public:
  PlainPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    socklen_t size = sizeof(address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      abort();
    }
    port_ = ntohs(address.sin_port);
  }
  void Listen() {
    if (listen(fd_.get(), 16) != 0) abort();
  }
  UniqueFd Accept() { return UniqueFd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }
  bool SomebodyDialsWithin(absl::Duration time) {
    pollfd wait = {fd_.get(), POLLIN, 0};
    return poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(time))) > 0;
  }
  uint16_t port() const { return port_; }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

TEST_F(EnrolmentTest, FrontendThatIsNotUpIsNotReachable) {
  const PlainPort closed;  // bound, so nobody else gets the port, but not listening
  const auto result = EnrolAt(closed.port(), BundleOf(*ca_));
  EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result),
              AllOf(HasSubstr(absl::StrCat("frontend not reachable at 127.0.0.1:", closed.port())),
                    HasSubstr("Connection refused"), Not(HasSubstr("last error"))));
}

TEST_F(EnrolmentTest, NameThatDoesNotResolveIsNotReachable) {
  const auto result =
      Enrol("no-such-host.invalid", 7432, BundleOf(*ca_), "w1", absl::Now() + absl::Seconds(20));
  EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result),
              HasSubstr("frontend not reachable at no-such-host.invalid:7432: DNS resolution"));
}

TEST_F(EnrolmentTest, SilentFrontendCostsNoMoreThanTheDeadline) {
  PlainPort silent;
  silent.Listen();
  const absl::Time begin = absl::Now();
  const auto result = EnrolAt(silent.port(), BundleOf(*ca_), "w1", absl::Milliseconds(200));
  EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result), HasSubstr("no answer in time"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
}

TEST_F(EnrolmentTest, ServerWithoutTlsIsNoFrontend) {
  PlainPort web;
  web.Listen();
  std::thread server([&web] {
    const UniqueFd caller = web.Accept();
    constexpr absl::string_view kReply = "HTTP/1.1 400 Bad Request\r\n\r\n";
    EXPECT_EQ(send(caller.get(), kReply.data(), kReply.size(), 0), ssize_t(kReply.size()));
    char byte;
    while (recv(caller.get(), &byte, 1, 0) > 0) {
    }
  });
  const auto result = EnrolAt(web.port(), BundleOf(*ca_));
  server.join();
  EXPECT_TRUE(absl::IsFailedPrecondition(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result), HasSubstr("is no mpilaunch frontend"));
}

TEST_F(EnrolmentTest, FailedEnrolmentLeavesNobodyDialling) {
  PlainPort broken;
  broken.Listen();
  std::thread server([&broken] { broken.Accept(); });  // closed at once
  const auto result = EnrolAt(broken.port(), BundleOf(*ca_));
  server.join();
  EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
  // gRPC would dial again after a second and a fifth at the latest.
  EXPECT_FALSE(broken.SomebodyDialsWithin(absl::Milliseconds(1500)));
}

TEST_F(EnrolmentTest, FrontendOfAnotherClusterIsTold) {
  const EnrolListener listener(*other_ca_);
  const auto result = EnrolAt(listener.port(), BundleOf(*ca_));
  EXPECT_TRUE(absl::IsFailedPrecondition(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result),
              HasSubstr(absl::StrCat("the frontend at 127.0.0.1:", listener.port(),
                                     " belongs to another cluster than this join bundle")));
}

TEST_F(EnrolmentTest, FrontendWithExpiredCertificateIsRefusedAndTheClockIsMentioned) {
  const TlsIdentity expired =
      NewIdentity(*ca_, Role::kFrontend, kFrontendName, absl::Now() - absl::Hours(2));
  const EnrolListener listener(*ca_, EnrolServerCredentials(expired));
  const auto result = EnrolAt(listener.port(), BundleOf(*ca_));
  EXPECT_TRUE(absl::IsFailedPrecondition(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result), HasSubstr("Clocks that differ"));
}

TEST_F(EnrolmentTest, WorkerThatPosesAsTheFrontendGetsNoToken) {
  const EnrolListener listener(
      *ca_, EnrolServerCredentials(NewIdentity(*ca_, Role::kWorker, kFrontendName)));
  const auto result = EnrolAt(listener.port(), BundleOf(*ca_));
  EXPECT_TRUE(absl::IsFailedPrecondition(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result), HasSubstr("is of this cluster but not its frontend"));
}

TEST_F(EnrolmentTest, ControlPortInsteadOfEnrolPortIsHintedAt) {
  const EnrolListener control(
      *ca_, MutualServerCredentials(NewIdentity(*ca_, Role::kFrontend, kFrontendName)));
  const auto result = EnrolAt(control.port(), BundleOf(*ca_));
  EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result), HasSubstr("this its enrol port?"));
}

// The frontend refuses ---------------------------------------------------------------------------

TEST_F(EnrolmentTest, ExpiredTokenSaysWhen) {
  const EnrolListener listener(*ca_);
  const auto result =
      EnrolAt(listener.port(), BundleOf(*ca_, Role::kWorker, absl::FromUnixSeconds(1700000000)));
  EXPECT_TRUE(absl::IsUnauthenticated(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result),
              AllOf(HasSubstr("refuses the join bundle: token expired at 2023-11-14T22:13:20"),
                    HasSubstr("copy the bundle")));
}

TEST_F(EnrolmentTest, TokenOfAnotherClusterIsRefused) {
  const EnrolListener listener(*ca_);
  JoinBundle bundle = BundleOf(*other_ca_);
  bundle.ca_pem = ca_->certificate_pem();
  const auto result = EnrolAt(listener.port(), bundle);
  EXPECT_TRUE(absl::IsUnauthenticated(result.status())) << result.status();
  EXPECT_THAT(MessageOf(result), HasSubstr("token of another cluster or altered"));
}

TEST_F(EnrolmentTest, UnusableNamesAreRefusedByClientAndService) {
  const EnrolListener listener(*ca_);
  for (const std::string& name :
       {std::string(), std::string("../x"), std::string("Worker1"), std::string(64, 'x')}) {
    const auto result = EnrolAt(listener.port(), BundleOf(*ca_), name);
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
    v1::EnrolRequest request = GoodRequest();
    request.set_name(name);
    EXPECT_TRUE(absl::IsInvalidArgument(Raw(listener, request))) << name;
  }
}

TEST_F(EnrolmentTest, OversizedRequestsAreRefused) {
  const EnrolListener listener(*ca_);
  v1::EnrolRequest request = GoodRequest();
  ASSERT_TRUE(Raw(listener, request).ok());
  request.set_token(std::string(1025, 'A'));
  EXPECT_TRUE(absl::IsInvalidArgument(Raw(listener, request)));
  request = GoodRequest();
  request.mutable_csr_pem()->resize(8 * 1024 + 1, '\n');
  EXPECT_TRUE(absl::IsInvalidArgument(Raw(listener, request)));
  request.mutable_csr_pem()->resize(1024 * 1024, '\n');
  EXPECT_TRUE(absl::IsResourceExhausted(Raw(listener, request)));  // not even read
}

TEST_F(EnrolmentTest, BrokenRequestIsRefused) {
  const EnrolListener listener(*ca_);
  v1::EnrolRequest request = GoodRequest();
  request.set_csr_pem("no PEM");
  EXPECT_TRUE(absl::IsInvalidArgument(Raw(listener, request)));
}

TEST_F(EnrolmentTest, LogNamesTheWorkerAndNeverTheToken) {
  const JoinBundle good = BundleOf(*ca_);
  const JoinBundle late = BundleOf(*ca_, Role::kWorker, absl::FromUnixSeconds(1700000000));
  testing::internal::CaptureStderr();
  {
    const EnrolListener listener(*ca_);
    EXPECT_TRUE(EnrolAt(listener.port(), good).ok());
    EXPECT_FALSE(EnrolAt(listener.port(), late).ok());
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, AllOf(HasSubstr("info enrolled worker=w1 peer=ipv4:127.0.0.1:"),
                         HasSubstr("warn refused to enrol peer=ipv4:127.0.0.1:")));
  for (const JoinBundle& bundle : {good, late}) {
    EXPECT_THAT(log, Not(HasSubstr(bundle.token.substr(0, 20))));
    EXPECT_THAT(log, Not(HasSubstr(bundle.token.substr(bundle.token.find('.') + 1, 20))));
  }
}

}  // namespace
}  // namespace mpilaunch
