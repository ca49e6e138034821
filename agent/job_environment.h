// The environment in which a worker runs what belongs to a job.
#ifndef MPILAUNCH_AGENT_JOB_ENVIRONMENT_H_
#define MPILAUNCH_AGENT_JOB_ENVIRONMENT_H_

#include <string>
#include <vector>

namespace mpilaunch {

// "MPILAUNCH_JOB=ID", which everything of the job carries: what escaped its process group is found
// by it.
std::string JobMark(const std::string& job);

// `agent` without MPILAUNCH_* (settings of the agent, none of the job's business), with a PATH when
// there is none, then `extra`, which replaces entries of the same name, then the mark. Entries are
// "NAME=value".
std::vector<std::string> JobEnvironment(const std::vector<std::string>& agent,
                                        const std::vector<std::string>& extra,
                                        const std::string& job);

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_JOB_ENVIRONMENT_H_
