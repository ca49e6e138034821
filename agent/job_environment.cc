#include "agent/job_environment.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/program_path.h"

namespace mpilaunch {
namespace {

// "NAME=" of "NAME=value".
absl::string_view NamePart(absl::string_view entry) { return entry.substr(0, entry.find('=') + 1); }

bool HasName(const std::vector<std::string>& entries, absl::string_view name_part) {
  return std::any_of(entries.begin(), entries.end(),
                     [&](const std::string& entry) { return absl::StartsWith(entry, name_part); });
}

}  // namespace

std::string JobMark(const std::string& job) { return absl::StrCat("MPILAUNCH_JOB=", job); }

std::vector<std::string> JobEnvironment(const std::vector<std::string>& agent,
                                        const std::vector<std::string>& extra,
                                        const std::string& job) {
  std::vector<std::string> environment;
  for (const std::string& entry : agent) {
    if (absl::StartsWith(entry, "MPILAUNCH_") || HasName(extra, NamePart(entry))) continue;
    environment.push_back(entry);
  }
  environment.insert(environment.end(), extra.begin(), extra.end());
  if (!HasName(environment, "PATH=")) environment.push_back(absl::StrCat("PATH=", kDefaultPath));
  environment.push_back(JobMark(job));
  return environment;
}

}  // namespace mpilaunch
