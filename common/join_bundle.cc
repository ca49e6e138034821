#include "common/join_bundle.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"

namespace mpilaunch {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxBundleBytes = 256 * 1024;
constexpr int kFormatVersion = 1;
constexpr char kVersionField[] = "mpilaunch_join_bundle";

constexpr absl::string_view kHowToGetOne =
    "the frontend writes it at its start (mpilaunchd's STATE_DIR/join/worker.json, or where its "
    "--join-bundle says); copy or mount that file and name it with --join-bundle PATH";

absl::Status Unusable(absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(why, "; ", kHowToGetOne));
}

absl::StatusOr<Json> ParseJson(absl::string_view text) {
  if (absl::StripAsciiWhitespace(text).empty()) return Unusable("the file is empty");
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error& error) {
    if (error.byte > text.size()) {
      return Unusable(absl::StrCat("torn: the JSON breaks off after ", text.size(), " bytes"));
    }
    return Unusable(absl::StrCat("not a join bundle: no JSON at byte ", error.byte));
  }
}

absl::Status CheckVersion(const Json& json) {
  const auto field = json.is_object() ? json.find(kVersionField) : json.end();
  if (field == json.end()) {
    return Unusable(absl::StrCat("not a join bundle: it has no field \"", kVersionField, "\""));
  }
  if (*field == kFormatVersion) return absl::OkStatus();
  return Unusable(absl::StrCat("written by another version of mpilaunch: its format is ",
                               field->is_number() ? field->dump() : "unknown",
                               ", this program reads format ", kFormatVersion));
}

absl::StatusOr<std::string> TextField(const Json& json, const char* name) {
  const auto field = json.find(name);
  if (field == json.end()) return Unusable(absl::StrCat("the field \"", name, "\" is missing"));
  if (!field->is_string() || field->get_ref<const std::string&>().empty()) {
    return Unusable(absl::StrCat("the field \"", name, "\" holds no text"));
  }
  return field->get<std::string>();
}

absl::StatusOr<uint16_t> PortField(const Json& json, const char* name) {
  const auto field = json.find(name);
  if (field == json.end()) return Unusable(absl::StrCat("the field \"", name, "\" is missing"));
  if (!field->is_number_unsigned() || *field < 1u || *field > 65535u) {
    return Unusable(absl::StrCat("the field \"", name, "\" is no port (1 to 65535)"));
  }
  return field->get<uint16_t>();
}

absl::StatusOr<absl::Time> TimeField(const Json& json, const char* name) {
  MPILAUNCH_ASSIGN_OR_RETURN(const std::string text, TextField(json, name));
  absl::Time time;
  if (absl::ParseTime(absl::RFC3339_full, text, &time, nullptr)) return time;
  return Unusable(absl::StrCat("the field \"", name, "\" is no time like 2030-01-31T12:00:00Z"));
}

absl::StatusOr<Role> RoleField(const Json& json, const char* name) {
  MPILAUNCH_ASSIGN_OR_RETURN(const std::string text, TextField(json, name));
  const absl::StatusOr<Role> role = ParseRole(text);
  if (!role.ok()) return Unusable(role.status().message());
  return *role;
}

std::string FormatMoment(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%SZ", time, absl::UTCTimeZone());
}

}  // namespace

std::string FormatJoinBundle(const JoinBundle& bundle) {
  const Json json = {
      {kVersionField, kFormatVersion},
      {"cluster", bundle.cluster},
      {"role", std::string(RoleName(bundle.role))},
      {"expires", FormatMoment(bundle.expires)},
      {"enrol_port", bundle.enrol_port},
      {"control_port", bundle.control_port},
      {"token", bundle.token},
      {"ca_certificate", bundle.ca_pem},
  };
  return json.dump(2) + "\n";
}

absl::StatusOr<JoinBundle> ParseJoinBundle(absl::string_view text) {
  MPILAUNCH_ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  MPILAUNCH_RETURN_IF_ERROR(CheckVersion(json));
  JoinBundle bundle;
  MPILAUNCH_ASSIGN_OR_RETURN(bundle.cluster, TextField(json, "cluster"));
  MPILAUNCH_ASSIGN_OR_RETURN(bundle.role, RoleField(json, "role"));
  MPILAUNCH_ASSIGN_OR_RETURN(bundle.expires, TimeField(json, "expires"));
  MPILAUNCH_ASSIGN_OR_RETURN(bundle.enrol_port, PortField(json, "enrol_port"));
  MPILAUNCH_ASSIGN_OR_RETURN(bundle.control_port, PortField(json, "control_port"));
  MPILAUNCH_ASSIGN_OR_RETURN(bundle.token, TextField(json, "token"));
  MPILAUNCH_ASSIGN_OR_RETURN(bundle.ca_pem, TextField(json, "ca_certificate"));
  if (absl::Status status = CheckCertificatePem(bundle.ca_pem); !status.ok()) {
    return Unusable(absl::StrCat("the field \"ca_certificate\" is ", status.message()));
  }
  return bundle;
}

absl::StatusOr<JoinBundle> ReadJoinBundle(const std::string& path, absl::Time now) {
  const absl::StatusOr<std::string> text = ReadSmallFile(path, kMaxBundleBytes);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(absl::StrCat("no join bundle at ", path, "; ", kHowToGetOne));
  }
  if (!text.ok()) return Annotate(text.status(), "cannot read the join bundle");
  absl::StatusOr<JoinBundle> bundle = ParseJoinBundle(*text);
  if (!bundle.ok()) return Annotate(bundle.status(), absl::StrCat("join bundle ", path));
  if (now >= bundle->expires) {
    return absl::FailedPreconditionError(absl::StrCat(
        "join bundle ", path, " expired at ", FormatMoment(bundle->expires), "; ", kHowToGetOne));
  }
  return bundle;
}

absl::Status WriteJoinBundle(const std::string& path, const JoinBundle& bundle) {
  return Annotate(WriteFileAtomically(path, FormatJoinBundle(bundle)),
                  "cannot write the join bundle");
}

}  // namespace mpilaunch
