#include "launcher/mpirun_command.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace mpilaunch {
namespace {

constexpr uint32_t kDefaultConcurrent = 128;
constexpr const char* kTakenFromFrontend[] = {"PATH", "HOME", "USER", "LANG"};

// Variables that would change mpirun itself and not only the ranks.
bool ChangesMpirun(absl::string_view name) {
  for (absl::string_view prefix :
       {"LD_", "LC_", "OMPI_", "ORTE_", "OPAL_", "PMIX_", "PRTE_", "HWLOC_", "MALLOC_", "GLIBC_"}) {
    if (absl::StartsWith(name, prefix)) return true;
  }
  for (absl::string_view exact :
       {"PATH", "HOME", "USER", "LANG", "TMPDIR", "TMP", "TEMP", "IFS", "ENV", "DISPLAY"}) {
    if (name == exact) return true;
  }
  return false;
}

// Set in Builder::Launch, or the daemons would not come up.
bool IsOurs(absl::string_view parameter) {
  for (absl::string_view exact :
       {"plm", "plm_rsh_agent", "plm_rsh_no_tree_spawn", "orte_leave_session_attached",
        "orte_launch_agent", "orte_tmpdir_base", "orte_local_tmpdir_base", "plm_ssh_agent",
        "plm_ssh_no_tree_spawn", "prte_leave_session_attached", "prte_launch_agent",
        "prte_tmpdir_base", "prte_local_tmpdir_base", "prte_remote_tmpdir_base"}) {
    if (parameter == exact) return true;
  }
  return false;
}

bool IsVariableName(absl::string_view name) {
  return !name.empty() && !absl::ascii_isdigit(name[0]) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return absl::ascii_isalnum(c) || c == '_'; });
}

std::string ShellQuote(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

class Builder {
 public:
  explicit Builder(const MpirunRequest& request)
      : request_(request), job_directory_(absl::StrCat(request.job_root, "/", request.job)) {}

  MpirunCommand Build() {
    // Called by an absolute path mpirun would put its own folders before PATH and LD_LIBRARY_PATH
    // of the workers, whose Open MPI may lie elsewhere: --noprefix.
    command_.argv = {request_.mpirun,   "--noprefix", "--hostfile",
                     request_.hostfile, "-n",         absl::StrCat(request_.ranks)};
    Base();
    Launch();
    Defaults();
    UserParameters();
    UserEnvironment();
    Program();
    constexpr uint64_t kOwnFiles = 256;
    constexpr uint64_t kFilesPerWorker = 8;
    // The ranks bound the workers, and mpirun holds nothing per rank.
    command_.max_open_files = kOwnFiles + kFilesPerWorker * request_.ranks;
    return std::move(command_);
  }

 private:
  void SetVariable(absl::string_view name, absl::string_view value) {
    command_.environment.push_back(absl::StrCat(name, "=", value));
  }
  void SetParameter(absl::string_view key, absl::string_view value) {
    SetVariable(absl::StrCat("OMPI_MCA_", key), value);
  }
  void SetRuntimeParameter(absl::string_view key, absl::string_view value) {
    const bool prrte = request_.runtime == MpiRuntime::kPrrte;
    SetVariable(absl::StrCat(prrte ? "PRTE_MCA_" : "OMPI_MCA_", key), value);
  }
  void Append(std::initializer_list<absl::string_view> words) {
    for (absl::string_view word : words) command_.argv.emplace_back(word);
  }

  // The little that mpirun needs; none of it reaches the ranks, which have their worker's
  // environment.
  void Base() {
    for (absl::string_view name : kTakenFromFrontend) {
      for (const std::string& entry : request_.frontend_environment) {
        if (absl::StartsWith(entry, absl::StrCat(name, "="))) command_.environment.push_back(entry);
      }
    }
    SetVariable("TMPDIR", request_.frontend_tmp);
    // Where the user's login shell is unknown (a uid without entry in /etc/passwd, or nologin)
    // mpirun asks here which shell's words it may use, and warns when it finds nothing. It is not
    // run.
    SetVariable("SHELL", "/bin/bash");
    SetVariable("MPILAUNCH_JOB", request_.job);
    SetVariable("MPILAUNCH_RSH_SOCKET", request_.rsh_socket);
    if (request_.root) {
      for (absl::string_view prefix : {"OMPI", "PRTE"}) {
        SetVariable(absl::StrCat(prefix, "_ALLOW_RUN_AS_ROOT"), "1");
        SetVariable(absl::StrCat(prefix, "_ALLOW_RUN_AS_ROOT_CONFIRM"), "1");
      }
    }
  }

  // Parameters that make mpirun work over mpilaunch-rsh at all: not the user's to change.
  void Launch() {
    // The daemons on the workers look for it, too, and die where it is missing, though they never
    // use it. They look for its first word only, and env is everywhere.
    const std::string agent = absl::StrCat("/usr/bin/env ", request_.rsh_agent);
    // Attached daemons must all be started at once: with more workers than this (128 by default)
    // mpirun 4.1 crashes. The ranks bound the workers.
    const std::string concurrent = absl::StrCat(std::max(request_.ranks, kDefaultConcurrent));
    // The folder of the workers' session files must not be mpirun's own, and Open MPI 4.1.4 ignores
    // its parameter for that (orte_remote_tmpdir_base): so the daemons get theirs in their shell
    // command.
    const std::string folder = ShellQuote(job_directory_ + "/tmp");
    if (request_.runtime == MpiRuntime::kPrrte) {
      Append({"--leave-session-attached"});
      SetRuntimeParameter("plm_ssh_agent", agent);
      SetRuntimeParameter("plm_ssh_no_tree_spawn", "1");
      SetRuntimeParameter("plm_ssh_num_concurrent", concurrent);
      // A worker may run as root though the frontend does not; only prted minds.
      SetRuntimeParameter("prte_launch_agent",
                          absl::StrCat("PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
                                       "PRTE_MCA_prte_tmpdir_base=",
                                       folder, " exec prted"));
    } else {
      SetRuntimeParameter("plm_rsh_agent", agent);
      SetRuntimeParameter("plm_rsh_no_tree_spawn", "1");
      SetRuntimeParameter("orte_leave_session_attached", "1");
      SetRuntimeParameter("plm_rsh_num_concurrent", concurrent);
      SetRuntimeParameter("orte_launch_agent",
                          absl::StrCat("OMPI_MCA_orte_tmpdir_base=", folder, " exec orted"));
    }
  }

  void Defaults() {
    const std::vector<v1::McaParameter> mca(request_.spec.mca().begin(), request_.spec.mca().end());
    for (const MpiDefault& choice : WithoutOverridden(request_.defaults, mca)) {
      switch (choice.kind) {
        case MpiDefault::Kind::kEnvironment:
          SetVariable(choice.key, choice.value);
          break;
        case MpiDefault::Kind::kRuntime:
          SetRuntimeParameter(choice.key, choice.value);
          break;
        case MpiDefault::Kind::kMpi:
          SetParameter(choice.key, choice.value);
          break;
      }
      command_.explanation.push_back(absl::StrCat(choice.key, "=", choice.value, ": ", choice.why));
    }
  }

  void UserParameters() {
    for (const v1::McaParameter& parameter : request_.spec.mca()) {
      Append({"--mca", parameter.key(), parameter.value()});
      command_.explanation.push_back(
          absl::StrCat(parameter.key(), "=", parameter.value(), ": as you said"));
    }
    if (!request_.spec.tag_output()) return;
    if (request_.runtime == MpiRuntime::kPrrte) {
      Append({"--output", "tag"});
    } else {
      Append({"--tag-output"});
    }
  }

  void UserEnvironment() {
    for (const v1::EnvironmentEntry& entry : request_.spec.environment()) {
      if (entry.name() == "ASAN_OPTIONS") {
        // Replaces the worker's, which lets such programs start behind the preloaded library.
        SetVariable(entry.name(), absl::StrCat(entry.value(), ":verify_asan_link_order=0"));
      } else if (ChangesMpirun(entry.name())) {
        Append({"-x", absl::StrCat(entry.name(), "=", entry.value())});
        continue;
      } else {
        SetVariable(entry.name(), entry.value());  // not in argv, which everybody can read
      }
      Append({"-x", entry.name()});
    }
  }

  void Program() {
    const v1::JobSpec& spec = request_.spec;
    const std::string work = job_directory_ + "/work";
    const bool elsewhere = !spec.working_directory().empty();
    const std::string program = spec.workers_program() ? spec.program()
                                : elsewhere            ? absl::StrCat(work, "/", spec.program())
                                                       : absl::StrCat("./", spec.program());
    Append({"--wdir", elsewhere ? spec.working_directory() : work});
    const auto& arguments = spec.arguments();
    if (std::find(arguments.begin(), arguments.end(), ":") == arguments.end()) {
      Append({program});
      command_.argv.insert(command_.argv.end(), arguments.begin(), arguments.end());
      return;
    }
    // A lone ":" would end the program's arguments and begin another program for mpirun.
    std::string text = absl::StrCat("exec ", ShellQuote(program));
    for (const std::string& argument : arguments) absl::StrAppend(&text, " ", ShellQuote(argument));
    Append({"/bin/sh", "-c", text});
  }

  const MpirunRequest& request_;
  const std::string job_directory_;
  MpirunCommand command_;
};

}  // namespace

MpirunCommand BuildMpirunCommand(const MpirunRequest& request) { return Builder(request).Build(); }

absl::Status CheckMpirunSpec(const v1::JobSpec& spec) {
  for (const v1::McaParameter& parameter : spec.mca()) {
    if (!IsVariableName(parameter.key())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--mca ", parameter.key(), ": a parameter's name has letters, digits and _ only"));
    }
    if (IsOurs(parameter.key())) {
      return absl::InvalidArgumentError(
          absl::StrCat("--mca ", parameter.key(), ": mpilaunch sets this itself"));
    }
    if (parameter.value().find_first_of("\"$`\\\n") != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("--mca ", parameter.key(),
                       ": Open MPI cannot hand on a value with \", $, `, \\ or a line end"));
    }
  }
  for (const v1::EnvironmentEntry& entry : spec.environment()) {
    if (!IsVariableName(entry.name())) {
      return absl::InvalidArgumentError(
          absl::StrCat("-x ", entry.name(), ": a variable's name has letters, digits and _ only"));
    }
    if (absl::StartsWith(entry.name(), "MPILAUNCH_")) {
      return absl::InvalidArgumentError(
          absl::StrCat("-x ", entry.name(), ": MPILAUNCH_* is mpilaunch's own"));
    }
  }
  return absl::OkStatus();
}

}  // namespace mpilaunch
