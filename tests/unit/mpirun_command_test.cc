// Golden files: tests/unit/testdata/mpirun_*.golden. MPILAUNCH_UPDATE_GOLDEN=1 writes them anew;
// then read the diff.
#include "launcher/mpirun_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "support/temporary_folder.h"

namespace mpilaunch {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string Render(const MpirunCommand& command) {
  return absl::StrCat("argv\n  ", absl::StrJoin(command.argv, "\n  "), "\nenvironment\n  ",
                      absl::StrJoin(command.environment, "\n  "), "\nexplanation\n  ",
                      absl::StrJoin(command.explanation, "\n  "), "\nmax_open_files ",
                      command.max_open_files, "\n");
}

void ExpectGolden(const MpirunCommand& command, const std::string& name) {
  const std::string path = absl::StrCat(MPILAUNCH_TESTDATA_DIR, "/mpirun_", name, ".golden");
  if (std::getenv("MPILAUNCH_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << Render(command);
  EXPECT_EQ(Render(command), ReadWhole(path))
      << path << ": MPILAUNCH_UPDATE_GOLDEN=1 writes it anew";
}

MpirunRequest SmallRequest() {
  MpirunRequest request;
  request.job = "17";
  request.spec.set_program("hello");
  request.ranks = 8;
  request.mpirun = "/usr/bin/mpirun";
  request.hostfile = "/run/mpilaunch/jobs/17/hostfile";
  request.frontend_tmp = "/run/mpilaunch/jobs/17/tmp";
  request.rsh_agent = "/usr/local/bin/mpilaunch-rsh";
  request.rsh_socket = "/run/mpilaunch/rsh.sock";
  request.job_root = "/tmp/mpilaunch";
  request.frontend_environment = {"PATH=/usr/bin:/bin",
                                  "HOME=/root",
                                  "LANG=C.UTF-8",
                                  "SSH_AUTH_SOCK=/secret",
                                  "MPILAUNCH_STATE_DIR=/var/lib/mpilaunch",
                                  "OMPI_MCA_pml=cm"};
  return request;
}

void AddVariable(v1::JobSpec& spec, const std::string& name, const std::string& value) {
  v1::EnvironmentEntry* entry = spec.add_environment();
  entry->set_name(name);
  entry->set_value(value);
}

void AddParameter(v1::JobSpec& spec, const std::string& key, const std::string& value) {
  v1::McaParameter* parameter = spec.add_mca();
  parameter->set_key(key);
  parameter->set_value(value);
}

TEST(MpirunCommandTest, Plain) { ExpectGolden(BuildMpirunCommand(SmallRequest()), "plain"); }

TEST(MpirunCommandTest, Everything) {
  MpirunRequest request = SmallRequest();
  request.root = true;
  request.job_root = "/srv/it's here";
  v1::WorkerFacts facts;
  facts.set_network("172.17.0.0/16");
  request.defaults = ChooseMpiDefaults(
      {.runtime = MpiRuntime::kOrte, .shares = {{&facts, 8}}, .frontend_network = "172.17.0.0/16"});
  v1::JobSpec& spec = request.spec;
  spec.set_working_directory("/data/run 1");
  spec.set_tag_output(true);
  for (const char* argument : {"-n", "3", "a b", "", "--", "$HOME"}) spec.add_arguments(argument);
  AddVariable(spec, "OMP_NUM_THREADS", "4");
  AddVariable(spec, "API_KEY", "a=b;c\nd");
  AddVariable(spec, "EMPTY", "");
  AddVariable(spec, "LD_LIBRARY_PATH", "/opt/lib");
  AddVariable(spec, "PATH", "/opt/bin:/bin");
  AddVariable(spec, "OMPI_MCA_coll", "^han");
  AddVariable(spec, "ASAN_OPTIONS", "detect_leaks=0");
  AddParameter(spec, "pml", "ucx");
  AddParameter(spec, "btl_tcp_links", "2");
  ExpectGolden(BuildMpirunCommand(request), "everything");
}

TEST(MpirunCommandTest, OpenMpi5) {
  MpirunRequest request = SmallRequest();
  request.runtime = MpiRuntime::kPrrte;
  request.root = true;
  v1::WorkerFacts facts;
  facts.set_network("172.17.0.0/16");
  request.defaults = ChooseMpiDefaults({.runtime = MpiRuntime::kPrrte,
                                        .shares = {{&facts, 8}},
                                        .frontend_network = "172.17.0.0/16"});
  request.spec.set_tag_output(true);
  request.spec.add_arguments("a b");
  AddVariable(request.spec, "OMP_NUM_THREADS", "4");
  AddParameter(request.spec, "btl_tcp_links", "2");
  ExpectGolden(BuildMpirunCommand(request), "open_mpi_5");
}

TEST(MpirunCommandTest, LoneColonDoesNotBeginAnotherProgram) {
  MpirunRequest request = SmallRequest();
  for (const char* argument : {"a", ":", "it's"}) request.spec.add_arguments(argument);
  ExpectGolden(BuildMpirunCommand(request), "colon");
}

TEST(MpirunCommandTest, FrontendsOwnVariablesStayAtHome) {
  const std::string environment =
      absl::StrJoin(BuildMpirunCommand(SmallRequest()).environment, "\n");
  for (const char* unwanted : {"SSH_AUTH_SOCK", "MPILAUNCH_STATE_DIR", "OMPI_MCA_pml"}) {
    EXPECT_THAT(environment, Not(HasSubstr(unwanted)));
  }
}

TEST(MpirunCommandTest, ValuesOfVariablesAreNotInArgvUnlessTheyWouldChangeMpirun) {
  MpirunRequest request = SmallRequest();
  AddVariable(request.spec, "SECRET", "hush");
  AddVariable(request.spec, "LD_PRELOAD", "/opt/trace.so");
  const MpirunCommand command = BuildMpirunCommand(request);
  EXPECT_THAT(absl::StrJoin(command.argv, " "), Not(HasSubstr("hush")));
  EXPECT_THAT(command.environment, Contains("SECRET=hush"));
  EXPECT_THAT(command.argv, Contains("LD_PRELOAD=/opt/trace.so"));
  EXPECT_THAT(command.environment, Not(Contains(StartsWith("LD_PRELOAD="))));
}

TEST(MpirunCommandTest, AProgramOfTheWorkersIsLookedUpThere) {
  MpirunRequest request = SmallRequest();
  request.spec.set_program("python3");
  request.spec.set_workers_program(true);
  request.spec.add_arguments("ring.py");
  for (const char* folder : {"", "/data"}) {
    request.spec.set_working_directory(folder);
    const MpirunCommand command = BuildMpirunCommand(request);
    ASSERT_GE(command.argv.size(), 2u);
    EXPECT_EQ(command.argv.end()[-2], "python3");
    EXPECT_EQ(command.argv.end()[-1], "ring.py");
  }
}

TEST(MpirunCommandTest, UsersParameterReplacesTheDefault) {
  MpirunRequest request = SmallRequest();
  request.defaults = {{"pml", "ob1", "no fabric"}};
  AddParameter(request.spec, "pml", "ucx");
  const MpirunCommand command = BuildMpirunCommand(request);
  EXPECT_THAT(command.environment, Not(Contains(StartsWith("OMPI_MCA_pml="))));
  EXPECT_THAT(command.explanation, ::testing::ElementsAre("pml=ucx: as you said"));
}

class CheckMpirunSpecTest : public ::testing::Test {
 protected:
  absl::StatusCode Code() const { return CheckMpirunSpec(spec_).code(); }
  v1::JobSpec spec_;
};

TEST_F(CheckMpirunSpecTest, UsualOnesPass) {
  AddParameter(spec_, "btl_tcp_if_include", "10.0.0.0/8,lo");
  AddParameter(spec_, "coll", "^han");
  AddVariable(spec_, "_A1", "any \"value\" $at `all`\n");
  EXPECT_EQ(Code(), absl::StatusCode::kOk);
}

TEST_F(CheckMpirunSpecTest, ParameterThatTheWorkersShellWouldReadIsRefused) {
  for (const char* value : {"a\"b", "$HOME", "`id`", "a\\b", "a\nb"}) {
    spec_.clear_mca();
    AddParameter(spec_, "btl", value);
    EXPECT_EQ(Code(), absl::StatusCode::kInvalidArgument) << value;
  }
}

TEST_F(CheckMpirunSpecTest, ParameterNameThatTheWorkersShellWouldReadIsRefused) {
  for (const char* key : {"", "a b", "x;reboot", "1a", "a=b"}) {
    spec_.clear_mca();
    AddParameter(spec_, key, "1");
    EXPECT_EQ(Code(), absl::StatusCode::kInvalidArgument) << key;
  }
}

TEST_F(CheckMpirunSpecTest, ParameterThatWouldCutTheLaunchIsRefused) {
  AddParameter(spec_, "plm_rsh_agent", "ssh");
  EXPECT_EQ(Code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CheckMpirunSpecTest, OddVariableNamesAreRefused) {
  for (const char* name : {"", "A B", "9", "A-B", "MPILAUNCH_JOB"}) {
    spec_.clear_environment();
    AddVariable(spec_, name, "1");
    EXPECT_EQ(Code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

}  // namespace
}  // namespace mpilaunch
