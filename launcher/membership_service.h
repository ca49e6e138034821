// The agents' sessions: registration in, a broken stream is a lost worker.
#ifndef MPILAUNCH_LAUNCHER_MEMBERSHIP_SERVICE_H_
#define MPILAUNCH_LAUNCHER_MEMBERSHIP_SERVICE_H_

#include <string>
#include <utility>

#include "launcher/cluster.h"
#include "membership.grpc.pb.h"

namespace mpilaunch {

// On the control listener. An idle worker costs no thread.
class MembershipService final : public v1::Membership::CallbackService {
 public:
  // `instance` names this run of the frontend. `cluster` outlives the server.
  MembershipService(Cluster* cluster, std::string instance)
      : cluster_(cluster), instance_(std::move(instance)) {}

  grpc::ServerBidiReactor<v1::AgentMessage, v1::FrontendMessage>* Session(
      grpc::CallbackServerContext* context) override;

 private:
  Cluster* const cluster_;
  const std::string instance_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_MEMBERSHIP_SERVICE_H_
