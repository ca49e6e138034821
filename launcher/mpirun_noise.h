// Takes two lines of mpirun's own out of its stderr. Pure.
#ifndef MPILAUNCH_LAUNCHER_MPIRUN_NOISE_H_
#define MPILAUNCH_LAUNCHER_MPIRUN_NOISE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace mpilaunch {

// After each fork mpirun makes the rsh agent leader of a process group, as the agent does by
// itself. Where the agent is quicker (ours is up within a millisecond) mpirun's attempt fails, and
// it says so on a line
// "[HOST:PID] plm:rsh: Warning: setpgid(N,N) failed in parent with errno=Permission denied(13)"
// (plm:ssh in Open MPI 5).
// In Open MPI 5.0.7 it says "[HOST:PID] PMIX ERROR: PMIX_ERR_UNPACK_READ_PAST_END_OF_BUFFER in file
// .../iof/hnp/iof_hnp_receive.c at line 97" whenever a rank reads its stdin slower than it comes.
// Nothing is wrong and nothing can be set against them. Every other byte passes, ranks' stderr
// included.
class MpirunNoise {
 public:
  // What of `bytes`, and of what was held back before, may pass. Only the beginning of a line that
  // can still become that line is held back.
  std::string Filter(absl::string_view bytes);
  // At the end of the stream: what is still held back.
  std::string Rest();

 private:
  std::string held_;
  bool at_line_start_ = true;
};

}  // namespace mpilaunch

#endif  // MPILAUNCH_LAUNCHER_MPIRUN_NOISE_H_
