#include "common/stream_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"

namespace mpilaunch {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Message {
  std::string text;
  size_t ByteSizeLong() const { return text.size(); }
};

// Stands for the reactor: remembers what was started; the test completes it.
struct Stream {
  explicit Stream(size_t max_bytes)
      : writer([this](const Message* message) { Start(message); }, max_bytes) {}

  void Start(const Message* message) {
    EXPECT_EQ(in_flight, nullptr) << "two writes in flight";
    EXPECT_FALSE(finished) << "a write after Finish";
    in_flight = message;
    started.push_back(message->text);
  }
  bool Complete(bool ok = true) {
    EXPECT_NE(in_flight, nullptr);
    in_flight = nullptr;
    return writer.OnWriteDone(ok);
  }
  void Close() {
    writer.CloseWhenEmpty([this] {
      EXPECT_FALSE(finished);
      finished = true;
    });
  }

  const Message* in_flight = nullptr;
  std::vector<std::string> started;
  bool finished = false;
  StreamWriter<Message> writer;
};

TEST(StreamWriterTest, OneWriteInFlightTheRestInOrder) {
  Stream stream(1000);
  EXPECT_TRUE(stream.writer.Write({"a"}));
  EXPECT_TRUE(stream.writer.Write({"b"}));
  EXPECT_TRUE(stream.writer.Write({"c"}));
  EXPECT_THAT(stream.started, ElementsAre("a"));
  stream.Complete();
  EXPECT_THAT(stream.started, ElementsAre("a", "b"));
  stream.Complete();
  stream.Complete();
  EXPECT_THAT(stream.started, ElementsAre("a", "b", "c"));
  EXPECT_EQ(stream.in_flight, nullptr);
  EXPECT_TRUE(stream.writer.Write({"d"}));
  EXPECT_EQ(stream.in_flight->text, "d");
}

TEST(StreamWriterTest, MessageInFlightStaysWhereItIs) {
  Stream stream(1'000'000);
  stream.writer.Write({"first"});
  const Message* first = stream.in_flight;
  for (int i = 0; i < 10'000; ++i) stream.writer.Write({"x"});
  EXPECT_EQ(first->text, "first");
}

TEST(StreamWriterTest, FullPausesAndHalfEmptyResumesOnce) {
  Stream stream(10);
  EXPECT_TRUE(stream.writer.Write({"1234"}));
  EXPECT_TRUE(stream.writer.Write({"567890"}));
  EXPECT_FALSE(stream.writer.Write({"x"}));
  EXPECT_FALSE(stream.writer.Write({"y"})) << "still full";
  EXPECT_FALSE(stream.Complete());  // 8 left
  EXPECT_TRUE(stream.Complete());   // 2 left
  EXPECT_FALSE(stream.Complete()) << "resumed already";
  EXPECT_TRUE(stream.writer.Write({"z"}));
}

TEST(StreamWriterTest, OneMessageAboveTheLimitPassesAndResumes) {
  Stream stream(10);
  EXPECT_FALSE(stream.writer.Write({std::string(100, 'x')}));
  EXPECT_TRUE(stream.Complete());
}

TEST(StreamWriterTest, FinishComesAfterTheLastWrite) {
  Stream stream(1000);
  stream.writer.Write({"a"});
  stream.writer.Write({"exit"});
  stream.Close();
  EXPECT_TRUE(stream.writer.Write({"late"}));
  EXPECT_FALSE(stream.finished);
  stream.Complete();
  EXPECT_FALSE(stream.finished);
  stream.Complete();
  EXPECT_TRUE(stream.finished);
  EXPECT_THAT(stream.started, ElementsAre("a", "exit"));
}

TEST(StreamWriterTest, FinishComesAtOnceWhenNothingIsQueued) {
  Stream stream(1000);
  stream.Close();
  EXPECT_TRUE(stream.finished);
  stream.writer.Write({"late"});
  EXPECT_THAT(stream.started, IsEmpty());
}

TEST(StreamWriterTest, BrokenStreamDropsTheQueueAndResumesTheSource) {
  Stream stream(2);
  stream.writer.Write({"a"});
  stream.writer.Write({"b"});
  EXPECT_FALSE(stream.writer.Write({"c"}));
  EXPECT_TRUE(stream.Complete(/*ok=*/false)) << "a paused child would never end";
  EXPECT_EQ(stream.in_flight, nullptr);
  EXPECT_TRUE(stream.writer.Write({"d"}));
  EXPECT_THAT(stream.started, ElementsAre("a"));
  EXPECT_FALSE(stream.finished);
  stream.Close();
  EXPECT_TRUE(stream.finished);
}

TEST(StreamWriterTest, BrokenStreamThatIsClosingFinishes) {
  Stream stream(1000);
  stream.writer.Write({"a"});
  stream.writer.Write({"b"});
  stream.Close();
  stream.Complete(/*ok=*/false);
  EXPECT_TRUE(stream.finished);
  EXPECT_THAT(stream.started, ElementsAre("a"));
}

// gRPC may run OnDone, which lets go of the reactor, on another thread before Finish has returned
// here.
TEST(StreamWriterTest, FinishMayDestroyTheWriter) {
  auto writer = std::make_unique<StreamWriter<Message>>([](const Message*) {}, 1000);
  StreamWriter<Message>* raw = writer.get();
  raw->CloseWhenEmpty([&] { writer.reset(); });
  EXPECT_EQ(writer, nullptr);
}

// Completes writes on a thread of its own, as gRPC does.
class ThreadedStream {
 public:
  ThreadedStream()
      : writer_([this](const Message* message) { Start(message); }, 100),
        thread_([this] { Run(); }) {}
  ~ThreadedStream() { thread_.join(); }

  void Write(const std::string& text) { writer_.Write({text}); }
  void Close() {
    writer_.CloseWhenEmpty([this] {
      absl::MutexLock lock(&mutex_);
      finished_ = true;
    });
  }
  std::vector<std::string> AwaitFinish() {
    absl::MutexLock lock(&mutex_, absl::Condition(&finished_));
    return written_;
  }

 private:
  void Start(const Message* message) {
    absl::MutexLock lock(&mutex_);
    EXPECT_EQ(in_flight_, nullptr);
    EXPECT_FALSE(finished_);
    in_flight_ = message;
  }
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return finished_ || in_flight_ != nullptr;
  }
  void Run() {
    for (;;) {
      {
        absl::MutexLock lock(&mutex_, absl::Condition(this, &ThreadedStream::HasWork));
        if (in_flight_ == nullptr) return;
        written_.push_back(in_flight_->text);
        in_flight_ = nullptr;
      }
      writer_.OnWriteDone(true);
    }
  }

  absl::Mutex mutex_;
  const Message* in_flight_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::vector<std::string> written_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  StreamWriter<Message> writer_;
  std::thread thread_;
};

TEST(StreamWriterTest, WritersOnSeveralThreadsLoseNothing) {
  constexpr int kMessages = 5000;
  ThreadedStream stream;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 2; ++thread) {
    threads.emplace_back([&stream, thread] {
      for (int i = 0; i < kMessages; ++i)
        stream.Write(std::string(1, static_cast<char>('a' + thread)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  stream.Close();
  EXPECT_EQ(stream.AwaitFinish().size(), 2u * kMessages);
}

}  // namespace
}  // namespace mpilaunch
