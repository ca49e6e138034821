// The gRPC face of the JobManager and the Cluster, for the command line.
#ifndef MPILAUNCH_LAUNCHER_JOB_SERVICE_H_
#define MPILAUNCH_LAUNCHER_JOB_SERVICE_H_

#include "job.grpc.pb.h"
#include "launcher/cluster.h"
#include "launcher/job_manager.h"

namespace mpilaunch {

// Served where the caller was authorised already (the Unix socket of the same user).
class JobService final : public v1::Job::CallbackService {
 public:
  // Both outlive the server.
  JobService(JobManager* jobs, Cluster* cluster) : jobs_(jobs), cluster_(cluster) {}

  grpc::ServerBidiReactor<v1::RunRequest, v1::RunEvent>* Run(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListJobsRequest* request,
                                 v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* context,
                                   const v1::CancelJobRequest* request,
                                   v1::CancelJobResponse* response) override;
  grpc::ServerUnaryReactor* Workers(grpc::CallbackServerContext* context,
                                    const v1::WorkersRequest* request,
                                    v1::WorkersResponse* response) override;

 private:
  JobManager* const jobs_;
  Cluster* const cluster_;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_JOB_SERVICE_H_
