#include "launcher/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"

namespace mpilaunch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Clients of workers that do not exist only try to connect; nothing here calls them.
Cluster::Options MakeOptions() {
  const absl::StatusOr<KeyAndRequest> key = NewKeyAndRequest();
  return {.own_host_name = "frontend",
          .own_worker = "frontend-here",
          .mpi_version = "4.1.4",
          .identity = {key->key_pem, "", ""}};
}

v1::Registration MakeRegistration(uint32_t slots, const std::string& mpi_version = "4.1.6") {
  v1::Registration registration;
  registration.set_port(9);
  registration.mutable_facts()->set_slots(slots);
  registration.mutable_facts()->set_mpi_version(mpi_version);
  registration.mutable_facts()->set_address("127.0.0.1");
  registration.mutable_facts()->set_job_root("/tmp/mpilaunch");
  return registration;
}

// A job that asks for slots on a thread of its own.
class Asker {
 public:
  Asker(Cluster& cluster, const std::string& job, uint32_t ranks,
        absl::Time wait_deadline = absl::InfinitePast(), bool here = false)
      : thread_([=, this, &cluster] {
          SlotRequest request;
          request.job = job;
          request.here = here;
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

TEST_F(ClusterTest, WorkerWithAnotherOpenMpiIsLeftOutAndNamedWhenItWouldBeNeeded) {
  ASSERT_TRUE(cluster_.Register("old", MakeRegistration(4)).ok());
  ASSERT_TRUE(cluster_.Register("new", MakeRegistration(4, "5.0.7")).ok());
  ASSERT_TRUE(cluster_.Register("none", MakeRegistration(4, "")).ok());
  Asker fits(cluster_, "1", 4);
  fits.done.WaitForNotification();
  ASSERT_TRUE(fits.allocation.ok()) << fits.allocation.status();
  EXPECT_THAT(fits.allocation->blocks, ElementsAre(RankBlock{"old", 4}));
  cluster_.Release(*fits.allocation);

  Asker too_large(cluster_, "2", 8);
  too_large.done.WaitForNotification();
  const std::string error(too_large.allocation.status().message());
  EXPECT_THAT(error, HasSubstr("old has 4"));
  EXPECT_THAT(error, HasSubstr("Open MPI 4.1.4"));
  EXPECT_THAT(error, HasSubstr("new has 5.0.7"));
  EXPECT_THAT(error, HasSubstr("none has no Open MPI"));
}

TEST_F(ClusterTest, FrontendsOwnWorkerIsForJobsHereOnly) {
  ASSERT_TRUE(cluster_.Register("frontend-here", MakeRegistration(2)).ok());
  EXPECT_TRUE(cluster_.Workers().empty());
  {
    Asker elsewhere(cluster_, "1", 1);
    elsewhere.done.WaitForNotification();
    EXPECT_THAT(std::string(elsewhere.allocation.status().message()), HasSubstr("--here"));
  }
  ASSERT_TRUE(cluster_.Register("w1", MakeRegistration(4)).ok());
  Asker waits_for_w2(cluster_, "2", 8, absl::InfiniteFuture());
  waits_for_w2.waits.WaitForNotification();
  {
    // Not behind the one that waits for workers; more ranks than slots is no reason to refuse.
    Asker here(cluster_, "3", 4, absl::InfinitePast(), /*here=*/true);
    here.done.WaitForNotification();
    ASSERT_TRUE(here.allocation.ok()) << here.allocation.status();
    EXPECT_THAT(here.allocation->blocks, ElementsAre(RankBlock{"frontend-here", 4}));
    cluster_.Release(*here.allocation);
  }
  waits_for_w2.cancelled = true;
  cluster_.Wake();
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
