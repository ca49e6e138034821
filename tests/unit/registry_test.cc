#include "launcher/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

v1::Registration MakeRegistration(uint32_t slots, const std::string& address = "10.0.0.2") {
  v1::Registration registration;
  registration.set_port(4000);
  registration.mutable_facts()->set_slots(slots);
  registration.mutable_facts()->set_address(address);
  registration.mutable_facts()->set_job_root("/tmp/mpilaunch");
  return registration;
}

TEST(Registry, ListsWorkersInNaturalOrder) {
  Registry registry("frontend");
  for (const char* name : {"w10", "w2", "w1"})
    EXPECT_TRUE(registry.Register(name, MakeRegistration(2), kNow).ok());
  const std::vector<Worker> all = registry.All();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].name, "w1");
  EXPECT_EQ(all[1].name, "w2");
  EXPECT_EQ(all[2].name, "w10");
}

TEST(Registry, TwoWorkersWithOneNameIsRefusedNamingBoth) {
  Registry registry("frontend");
  ASSERT_TRUE(registry.Register("w1", MakeRegistration(2, "10.0.0.2"), kNow).ok());
  const absl::Status status =
      registry.Register("w1", MakeRegistration(2, "10.0.0.3"), kNow).status();
  EXPECT_TRUE(absl::IsAlreadyExists(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("10.0.0.2"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("10.0.0.3"));
}

TEST(Registry, NamesThatMpirunTakesForItselfAreRefused) {
  Registry registry("mpife.lab.example");
  for (const char* name : {"mpife.lab.example", "mpife", "localhost", "localhost.localdomain"}) {
    EXPECT_TRUE(
        absl::IsFailedPrecondition(registry.Register(name, MakeRegistration(2), kNow).status()))
        << name;
  }
  EXPECT_TRUE(registry.Register("mpife2", MakeRegistration(2), kNow).ok());
}

TEST(Registry, BadFactsAreRefused) {
  Registry registry("frontend");
  EXPECT_TRUE(absl::IsInvalidArgument(registry.Register("w1", MakeRegistration(0), kNow).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(registry.Register("w1", MakeRegistration(1u << 30), kNow).status()));
  EXPECT_TRUE(registry.All().empty());
}

TEST(Registry, LostWorkerIsListedAndMayComeBack) {
  Registry registry("frontend");
  const uint64_t first = *registry.Register("w1", MakeRegistration(2), kNow);
  EXPECT_TRUE(registry.End("w1", first, /*on_purpose=*/false, kNow));
  EXPECT_EQ(registry.Find("w1")->state, v1::LOST);
  const uint64_t second = *registry.Register("w1", MakeRegistration(4), kNow);
  EXPECT_EQ(registry.Find("w1")->state, v1::READY);
  EXPECT_EQ(registry.Find("w1")->facts.slots(), 4u);
  // The old session's end arrives late: it is not this worker's any more.
  EXPECT_FALSE(registry.End("w1", first, false, kNow));
  EXPECT_EQ(registry.Find("w1")->state, v1::READY);
  EXPECT_NE(first, second);
}

TEST(Registry, WorkerThatSaidGoodbyeIsForgotten) {
  Registry registry("frontend");
  const uint64_t session = *registry.Register("w1", MakeRegistration(2), kNow);
  EXPECT_TRUE(registry.End("w1", session, /*on_purpose=*/true, kNow));
  EXPECT_EQ(registry.Find("w1"), nullptr);
}

TEST(Registry, LostWorkersAreBounded) {
  Registry registry("frontend");
  for (int i = 0; i < 1000; ++i) {
    const std::string name = absl::StrCat("pod-", i);
    const uint64_t session = *registry.Register(name, MakeRegistration(1), kNow + absl::Seconds(i));
    registry.End(name, session, false, kNow + absl::Seconds(i));
  }
  EXPECT_EQ(registry.All().size(), 256u);
  EXPECT_EQ(registry.Find("pod-0"), nullptr);
  EXPECT_NE(registry.Find("pod-999"), nullptr);
}

TEST(Registry, SlotsAreTakenAndGivenAcrossALostAndReturnedWorker) {
  Registry registry("frontend");
  const uint64_t session = *registry.Register("w1", MakeRegistration(4), kNow);
  registry.Take({{"w1", 3}});
  EXPECT_EQ(registry.Find("w1")->slots_used, 3u);
  registry.End("w1", session, false, kNow);
  ASSERT_TRUE(registry.Register("w1", MakeRegistration(4), kNow).ok());
  EXPECT_EQ(registry.Find("w1")->slots_used, 3u);  // the job is still being ended there
  registry.Give({{"w1", 3}});
  EXPECT_EQ(registry.Find("w1")->slots_used, 0u);
}

}  // namespace
}  // namespace mpilaunch
