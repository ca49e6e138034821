#include "common/peer_identity.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

constexpr absl::string_view kScheme = "mpilaunch://";
constexpr size_t kMaxNameLength = 63;

bool IsLowerOrDigit(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); }
bool IsNameCharacter(char c) { return IsLowerOrDigit(c) || c == '-' || c == '_' || c == '.'; }

// The name comes from a stranger and the message may end in a log: short and printable.
absl::Status BadName(absl::string_view name, absl::string_view why) {
  const absl::string_view shown = name.substr(0, kMaxNameLength);
  return absl::InvalidArgumentError(absl::StrCat("name \"", absl::CHexEscape(shown),
                                                 shown.size() < name.size() ? "..." : "",
                                                 "\" cannot be used: ", why));
}

}  // namespace

absl::string_view RoleName(Role role) {
  switch (role) {
    case Role::kFrontend:
      return "frontend";
    case Role::kWorker:
      return "worker";
    case Role::kClient:
      return "client";
  }
  return "unknown";
}

absl::StatusOr<Role> ParseRole(absl::string_view name) {
  for (Role role : {Role::kFrontend, Role::kWorker, Role::kClient}) {
    if (name == RoleName(role)) return role;
  }
  return absl::InvalidArgumentError(absl::StrCat("role \"", absl::CHexEscape(name.substr(0, 16)),
                                                 "\" is none of frontend, worker, client"));
}

std::string ServerName(Role role, absl::string_view name) {
  return absl::StrCat(name, ".", RoleName(role), ".mpilaunch");
}

std::string IdentityUri(const PeerIdentity& identity) {
  return absl::StrCat(kScheme, identity.cluster, "/", RoleName(identity.role), "/", identity.name);
}

absl::StatusOr<PeerIdentity> ParseIdentityUri(absl::string_view uri) {
  absl::string_view rest = uri;
  if (!absl::ConsumePrefix(&rest, kScheme)) {
    return absl::InvalidArgumentError("not an mpilaunch:// URI");
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(rest, '/');
  if (parts.size() != 3 || parts[0].empty()) {
    return absl::InvalidArgumentError("not of the form mpilaunch://CLUSTER/ROLE/NAME");
  }
  MPILAUNCH_ASSIGN_OR_RETURN(const Role role, ParseRole(parts[1]));
  MPILAUNCH_RETURN_IF_ERROR(ValidateName(parts[2]));
  return PeerIdentity{std::string(parts[0]), role, std::string(parts[2])};
}

absl::Status ValidateName(absl::string_view name) {
  if (name.empty()) return BadName(name, "it is empty");
  if (name.size() > kMaxNameLength) {
    return BadName(name, absl::StrCat("it has ", name.size(), " characters, at most ",
                                      kMaxNameLength, " are allowed"));
  }
  if (std::any_of(name.begin(), name.end(), [](char c) { return absl::ascii_isupper(c); })) {
    return BadName(name, "upper case is not allowed");
  }
  if (!std::all_of(name.begin(), name.end(), IsNameCharacter)) {
    return BadName(name, "only a-z, 0-9, '-', '_' and '.' are allowed");
  }
  if (!IsLowerOrDigit(name.front()) || !IsLowerOrDigit(name.back())) {
    return BadName(name, "it must begin and end with a letter or a digit");
  }
  if (absl::StrContains(name, "..")) return BadName(name, "it has an empty part between two dots");
  return absl::OkStatus();
}

}  // namespace mpilaunch
