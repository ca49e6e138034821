#include "launcher/membership_service.h"

#include <utility>

#include "common/grpc_status.h"
#include "common/tls.h"

namespace mpilaunch {
namespace {

// One agent's session. gRPC runs a reactor's reactions one at a time; OnDone deletes it.
class SessionReactor final : public grpc::ServerBidiReactor<v1::AgentMessage, v1::FrontendMessage> {
 public:
  SessionReactor(Cluster* cluster, const std::string& instance, absl::StatusOr<PeerIdentity> peer)
      : cluster_(cluster) {
    if (absl::Status status = CheckWorker(peer); !status.ok()) {
      Finish(ToGrpc(status));
      return;
    }
    name_ = peer->name;
    welcome_.mutable_welcome()->set_frontend_instance(instance);
    StartRead(&message_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      EndSession();  // before the agent learns that its session is over and exits
      return Finish(ToGrpc(absl::OkStatus()));
    }
    if (message_.has_registration() && session_ == 0) {
      absl::StatusOr<uint64_t> session = cluster_->Register(name_, message_.registration());
      if (!session.ok()) return Finish(ToGrpc(session.status()));
      session_ = *session;
      StartWrite(&welcome_);
    } else if (message_.has_goodbye()) {
      on_purpose_ = true;
    } else {
      return Finish(ToGrpc(absl::InvalidArgumentError("a session starts with one registration")));
    }
    StartRead(&message_);
  }

  void OnDone() override {
    EndSession();
    delete this;
  }

 private:
  void EndSession() {
    if (session_ != 0) cluster_->EndSession(name_, std::exchange(session_, 0), on_purpose_);
  }

  static absl::Status CheckWorker(const absl::StatusOr<PeerIdentity>& peer) {
    if (!peer.ok()) return peer.status();
    if (peer->role == Role::kWorker) return absl::OkStatus();
    return absl::PermissionDeniedError(absl::StrCat("a session needs role=worker, ", peer->name,
                                                    " has role=", RoleName(peer->role)));
  }

  Cluster* const cluster_;
  std::string name_;
  v1::AgentMessage message_;
  v1::FrontendMessage welcome_;
  uint64_t session_ = 0;
  bool on_purpose_ = false;
};

}  // namespace

grpc::ServerBidiReactor<v1::AgentMessage, v1::FrontendMessage>* MembershipService::Session(
    grpc::CallbackServerContext* context) {
  return new SessionReactor(cluster_, instance_, PeerOf(*context->auth_context()));
}

}  // namespace mpilaunch
