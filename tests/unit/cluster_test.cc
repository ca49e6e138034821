#include "launcher/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"

namespace mpilaunch {
namespace {

using ::testing::ElementsAre;

// Clients of workers that do not exist only try to connect; nothing here calls them.
Cluster::Options MakeOptions() {
  const absl::StatusOr<KeyAndRequest> key = NewKeyAndRequest();
  return {.own_host_name = "frontend", .identity = {key->key_pem, "", ""}};
}

v1::Registration MakeRegistration(uint32_t slots) {
  v1::Registration registration;
  registration.set_port(9);
  registration.mutable_facts()->set_slots(slots);
  registration.mutable_facts()->set_address("127.0.0.1");
  registration.mutable_facts()->set_job_root("/tmp/mpilaunch");
  return registration;
}

// A job that asks for slots on a thread of its own.
class Asker {
 public:
  Asker(Cluster& cluster, const std::string& job, uint32_t ranks,
        absl::Time wait_deadline = absl::InfinitePast())
      : thread_([=, this, &cluster] {
          SlotRequest request;
          request.job = job;
          request.placement.ranks = ranks;
          request.wait_deadline = wait_deadline;
          request.on_wait = [this](const std::string&) {
            if (!waits.HasBeenNotified()) waits.Notify();
          };
          request.cancelled = [this] { return cancelled.load(); };
          request.on_worker_lost = [this](const std::string& worker) { lost = worker; };
          allocation = cluster.Acquire(request);
          done.Notify();
        }) {}
  ~Asker() { thread_.join(); }

  absl::Notification waits;
  absl::Notification done;
  std::atomic<bool> cancelled = false;
  std::string lost;
  absl::StatusOr<Allocation> allocation = absl::UnknownError("");

 private:
  std::thread thread_;
};

class ClusterTest : public ::testing::Test {
 protected:
  Cluster cluster_{MakeOptions()};
};

TEST_F(ClusterTest, AllSlotsOfAWorkerAreExclusive) {
  ASSERT_TRUE(cluster_.Register("w1", MakeRegistration(4)).ok());
  {
    Asker all(cluster_, "1", 4);
    all.done.WaitForNotification();
    ASSERT_TRUE(all.allocation.ok()) << all.allocation.status();
    EXPECT_TRUE(all.allocation->exclusive);
    cluster_.Release(*all.allocation);
  }
  Asker some(cluster_, "2", 3);
  some.done.WaitForNotification();
  EXPECT_FALSE(some.allocation->exclusive);
}

TEST_F(ClusterTest, FirstComeFirstServed) {
  ASSERT_TRUE(cluster_.Register("w1", MakeRegistration(4)).ok());
  Asker first(cluster_, "1", 3);
  first.done.WaitForNotification();
  Asker large(cluster_, "2", 4);
  large.waits.WaitForNotification();
  Asker small(cluster_, "3", 1);  // would fit, but comes after
  small.waits.WaitForNotification();
  EXPECT_FALSE(small.done.HasBeenNotified());
  cluster_.Release(*first.allocation);
  large.done.WaitForNotification();
  EXPECT_FALSE(small.done.HasBeenNotified());
  cluster_.Release(*large.allocation);
  small.done.WaitForNotification();
  EXPECT_THAT(small.allocation->blocks, ElementsAre(RankBlock{"w1", 1}));
}

TEST_F(ClusterTest, CancelledAtTheHeadLetsTheNextOneThrough) {
  ASSERT_TRUE(cluster_.Register("w1", MakeRegistration(2)).ok());
  Asker first(cluster_, "1", 2);
  first.done.WaitForNotification();
  Asker head(cluster_, "2", 2);
  head.waits.WaitForNotification();
  Asker next(cluster_, "3", 1);
  next.waits.WaitForNotification();
  head.cancelled = true;
  cluster_.Wake();
  head.done.WaitForNotification();
  EXPECT_TRUE(absl::IsCancelled(head.allocation.status()));
  cluster_.Release(*first.allocation);
  next.done.WaitForNotification();
  EXPECT_TRUE(next.allocation.ok());
}

TEST_F(ClusterTest, TooFewSlotsIsAnErrorAtOnceUnlessWaitedFor) {
  ASSERT_TRUE(cluster_.Register("w1", MakeRegistration(2)).ok());
  {
    Asker impatient(cluster_, "1", 3);
    impatient.done.WaitForNotification();
    EXPECT_TRUE(absl::IsFailedPrecondition(impatient.allocation.status()));
  }
  Asker patient(cluster_, "2", 3, absl::InfiniteFuture());
  patient.waits.WaitForNotification();
  ASSERT_TRUE(cluster_.Register("w2", MakeRegistration(2)).ok());
  patient.done.WaitForNotification();
  EXPECT_THAT(patient.allocation->blocks, ElementsAre(RankBlock{"w1", 2}, RankBlock{"w2", 1}));
}

TEST_F(ClusterTest, OnlyTheJobsOfALostWorkerAreTold) {
  const uint64_t session = *cluster_.Register("w1", MakeRegistration(1));
  ASSERT_TRUE(cluster_.Register("w2", MakeRegistration(1)).ok());
  Asker on_first(cluster_, "1", 1);
  on_first.done.WaitForNotification();
  Asker on_second(cluster_, "2", 1);
  on_second.done.WaitForNotification();
  cluster_.EndSession("w1", session, /*on_purpose=*/false);
  EXPECT_EQ(on_first.lost, "w1");
  EXPECT_EQ(on_second.lost, "");
}

}  // namespace
}  // namespace mpilaunch
