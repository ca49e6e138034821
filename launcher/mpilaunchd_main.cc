#include <cstdio>

#include "common/exit_codes.h"
#include "common/init_loop.h"
#include "common/logging.h"
#include "launcher/frontend.h"

int main(int argc, char** argv) {
  using namespace mpilaunch;
  PrepareProcess();
  int exit_code = -1;
  const FrontendOptions options = ParseFrontendOptions(argc, argv, exit_code);
  if (exit_code >= 0) return exit_code;
  if (absl::Status status = InitLogging(options.logging); !status.ok()) {
    std::fprintf(stderr, "mpilaunchd: %s\n", std::string(status.message()).c_str());
    return kExitUsage;
  }
  auto frontend = Frontend::Start(options);
  if (!frontend.ok()) {
    std::fprintf(stderr, "mpilaunchd: %s\n", std::string(frontend.status().message()).c_str());
    return 1;
  }
  return (*frontend)->Wait();
}
