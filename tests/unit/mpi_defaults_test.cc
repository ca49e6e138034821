#include "launcher/mpi_defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <optional>
#include <string>
#include <vector>

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;

// A job whose workers are changed by the test before it asks.
class MpiDefaultsTest : public ::testing::Test {
 protected:
  MpiDefaultsTest() {
    AddWorker("boot-1", {0, 1, 2, 3}, 4);
    AddWorker("boot-2", {0, 1, 2, 3}, 4);
    request_.exclusive = true;
    request_.frontend_network = "172.17.0.0/16";
  }

  v1::WorkerFacts& AddWorker(const std::string& boot_id, const std::vector<uint32_t>& cpus,
                             uint32_t ranks) {
    v1::WorkerFacts& facts = facts_.emplace_back();
    facts.set_network("172.17.0.0/16");
    facts.set_boot_id(boot_id);
    facts.mutable_cpus()->Add(cpus.begin(), cpus.end());
    facts.set_slots(static_cast<uint32_t>(cpus.size()));
    facts.set_cma(true);
    request_.shares.push_back({&facts, ranks});
    return facts;
  }

  std::optional<MpiDefault> Find(const std::string& key) const {
    for (const MpiDefault& choice : ChooseMpiDefaults(request_)) {
      if (choice.key == key) return choice;
    }
    return std::nullopt;
  }
  std::string Value(const std::string& key) const {
    const std::optional<MpiDefault> choice = Find(key);
    return choice ? choice->value : "(not set)";
  }

  std::deque<v1::WorkerFacts> facts_;
  MpiDefaultsRequest request_;
};

TEST_F(MpiDefaultsTest, EveryDefaultHasOneReasonAndOneKey) {
  std::vector<std::string> keys;
  for (const MpiDefault& choice : ChooseMpiDefaults(request_)) {
    EXPECT_FALSE(choice.why.empty()) << choice.key;
    EXPECT_THAT(keys, ::testing::Not(::testing::Contains(choice.key)));
    keys.push_back(choice.key);
  }
}

TEST_F(MpiDefaultsTest, RanksStandWhereTheyWerePlaced) {
  EXPECT_EQ(Value("rmaps_base_mapping_policy"), "slot");
}

TEST_F(MpiDefaultsTest, WithoutFabricTransportsAreLean) {
  EXPECT_EQ(Value("pml"), "ob1");
  EXPECT_EQ(Value("btl"), "self,vader,tcp");
  EXPECT_EQ(Value("osc"), "^ucx");
}

TEST_F(MpiDefaultsTest, OneWorkerWithFabricLeavesTransportsToOpenMpi) {
  facts_[1].set_fabric(true);
  for (const char* key : {"pml", "btl", "osc"}) EXPECT_EQ(Value(key), "(not set)") << key;
}

TEST_F(MpiDefaultsTest, OneWorkerWithoutCmaSwitchesItOffForAll) {
  EXPECT_EQ(Value("btl_vader_single_copy_mechanism"), "(not set)");
  facts_[1].set_cma(false);
  EXPECT_EQ(Value("btl_vader_single_copy_mechanism"), "none");
}

TEST_F(MpiDefaultsTest, OneNetworkIsNamed) {
  EXPECT_EQ(Value("btl_tcp_if_include"), "172.17.0.0/16");
  EXPECT_EQ(Value("oob_tcp_if_include"), "172.17.0.0/16");
}

TEST_F(MpiDefaultsTest, LoopbackIsNamedBecauseOpenMpiLeavesItOut) {
  for (v1::WorkerFacts& facts : facts_) facts.set_network("127.0.0.0/8");
  request_.frontend_network = "127.0.0.0/8";
  EXPECT_EQ(Value("btl_tcp_if_include"), "127.0.0.0/8");
}

TEST_F(MpiDefaultsTest, UnknownFrontendNetworkDoesNotMatter) {
  request_.frontend_network.clear();
  EXPECT_EQ(Value("oob_tcp_if_include"), "172.17.0.0/16");
}

TEST_F(MpiDefaultsTest, SeveralNetworksAreLeftToOpenMpi) {
  facts_[1].set_network("10.244.2.0/24");
  EXPECT_EQ(Value("btl_tcp_if_include"), "(not set)");
  EXPECT_EQ(Value("oob_tcp_if_include"), "(not set)");
}

TEST_F(MpiDefaultsTest, FrontendInAnotherNetworkLeavesItToOpenMpi) {
  request_.frontend_network = "10.0.0.0/8";
  EXPECT_EQ(Value("oob_tcp_if_include"), "(not set)");
}

TEST_F(MpiDefaultsTest, NamesAreNeverResolved) { EXPECT_EQ(Value("if_base_do_not_resolve"), "1"); }

TEST_F(MpiDefaultsTest, JobThatHasItsMachinesForItselfIsBoundAndSpins) {
  EXPECT_EQ(Value("hwloc_base_binding_policy"), "(not set)");
  EXPECT_EQ(Value("mpi_yield_when_idle"), "(not set)");
}

TEST_F(MpiDefaultsTest, JobThatMayGetANeighbourIsNotBound) {
  request_.exclusive = false;
  EXPECT_EQ(Value("hwloc_base_binding_policy"), "none");
  EXPECT_THAT(Find("hwloc_base_binding_policy")->why, HasSubstr("another job"));
  EXPECT_EQ(Value("mpi_yield_when_idle"), "(not set)");
}

TEST_F(MpiDefaultsTest, MoreRanksThanCoresAreNotBoundAndYield) {
  request_.shares[0].ranks = 5;
  EXPECT_EQ(Value("hwloc_base_binding_policy"), "none");
  EXPECT_THAT(Find("hwloc_base_binding_policy")->why, HasSubstr("more ranks than cores"));
  EXPECT_EQ(Value("mpi_yield_when_idle"), "1");
}

TEST_F(MpiDefaultsTest, WorkersThatShareCpusAreNotBound) {
  facts_[1].set_boot_id("boot-1");
  request_.shares[0].ranks = request_.shares[1].ranks = 2;
  EXPECT_EQ(Value("hwloc_base_binding_policy"), "none");
  EXPECT_THAT(Find("hwloc_base_binding_policy")->why, HasSubstr("share"));
  EXPECT_EQ(Value("mpi_yield_when_idle"), "(not set)") << "2 + 2 ranks fit 4 cpus";
}

TEST_F(MpiDefaultsTest, WorkersThatShareAMachineYieldWhenTogetherTheyAreTooMany) {
  facts_[1].set_boot_id("boot-1");
  EXPECT_EQ(Value("mpi_yield_when_idle"), "1") << "4 + 4 ranks on 4 cpus";
}

TEST_F(MpiDefaultsTest, WorkersWithCpusOfTheirOwnOnOneMachineAreBound) {
  facts_[1].set_boot_id("boot-1");
  facts_[1].clear_cpus();
  for (uint32_t cpu : {4, 5, 6, 7}) facts_[1].add_cpus(cpu);
  EXPECT_EQ(Value("hwloc_base_binding_policy"), "(not set)");
  EXPECT_EQ(Value("mpi_yield_when_idle"), "(not set)");
}

TEST_F(MpiDefaultsTest, CpuQuotaMeansOthersUseTheSameCpus) {
  facts_[0].set_slots(2);
  request_.shares[0].ranks = 2;
  EXPECT_EQ(Value("hwloc_base_binding_policy"), "none");
}

TEST_F(MpiDefaultsTest, WorkersWithoutBootIdAreMachinesOfTheirOwn) {
  for (v1::WorkerFacts& facts : facts_) facts.clear_boot_id();
  EXPECT_EQ(Value("hwloc_base_binding_policy"), "(not set)");
  EXPECT_EQ(Value("mpi_yield_when_idle"), "(not set)");
}

TEST_F(MpiDefaultsTest, WorkerWithUnknownCpusIsTakenAsCrowded) {
  facts_[0].clear_cpus();
  EXPECT_EQ(Value("hwloc_base_binding_policy"), "none");
  EXPECT_EQ(Value("mpi_yield_when_idle"), "1");
}

TEST_F(MpiDefaultsTest, VariablesOfMpirunItselfAreMarked) {
  ASSERT_TRUE(Find("HWLOC_COMPONENTS").has_value());
  EXPECT_EQ(Find("HWLOC_COMPONENTS")->kind, MpiDefault::Kind::kEnvironment);
  EXPECT_EQ(Find("pml")->kind, MpiDefault::Kind::kMpi);
}

TEST_F(MpiDefaultsTest, OpenMpi5HasItsOwnNames) {
  request_.runtime = MpiRuntime::kPrrte;
  request_.exclusive = false;
  facts_[0].set_cma(false);
  EXPECT_EQ(Value("rmaps_default_mapping_policy"), "slot:oversubscribe");
  EXPECT_EQ(Value("hwloc_default_binding_policy"), "none");
  EXPECT_EQ(Value("btl_tcp_if_include"), "172.17.0.0/16");
  EXPECT_EQ(Value("btl"), "self,sm,tcp");
  EXPECT_EQ(Value("smsc"), "^cma");
  EXPECT_EQ(Find("ras")->kind, MpiDefault::Kind::kRuntime);
  EXPECT_EQ(Find("btl")->kind, MpiDefault::Kind::kMpi);
  for (const char* old :
       {"oob_tcp_if_include", "prte_if_include", "btl_vader_single_copy_mechanism", "schizo"}) {
    EXPECT_EQ(Value(old), "(not set)") << old;
  }
}

v1::McaParameter Mca(const std::string& key, const std::string& value) {
  v1::McaParameter parameter;
  parameter.set_key(key);
  parameter.set_value(value);
  return parameter;
}

TEST(WithoutOverriddenTest, UsersKeyWinsAndTheRestStays) {
  const std::vector<MpiDefault> defaults = {{"pml", "ob1", "a"}, {"btl", "tcp", "b"}};
  EXPECT_THAT(WithoutOverridden(defaults, {Mca("pml", "ucx"), Mca("btl_tcp_links", "2")}),
              ::testing::ElementsAre(defaults[1]));
}

TEST(WithoutOverriddenTest, ParameterIsNoVariable) {
  const std::vector<MpiDefault> defaults = {
      {"HWLOC_COMPONENTS", "x", "a", MpiDefault::Kind::kEnvironment}};
  EXPECT_THAT(WithoutOverridden(defaults, {Mca("HWLOC_COMPONENTS", "y")}),
              ::testing::ElementsAre(defaults[0]));
}

}  // namespace
}  // namespace mpilaunch
