#include "base/background.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace fettle {
namespace {

TEST(Background, JobsRunInOrderOnAnotherThread) {
  Background background(3);
  std::vector<int> order;
  std::thread::id where;
  for (int i = 0; i < 100; ++i)
    EXPECT_TRUE(background
                    .post([&, i]() -> Status {
                      order.push_back(i);
                      where = std::this_thread::get_id();
                      return {};
                    })
                    .ok());
  ASSERT_TRUE(background.wait().ok());
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST(Background, NoMoreJobsWaitThanAllowed) {
  Background background(2);
  std::atomic<int> posted{0}, most{0}, done{0};
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(background
                    .post([&]() -> Status {
                      most = std::max(most.load(), posted - done);
                      std::this_thread::yield();
                      ++done;
                      return {};
                    })
                    .ok());
    ++posted;
  }
  ASSERT_TRUE(background.wait().ok());
  EXPECT_LE(most, 3);  // two that are let be, and the one post() is about to return from
}

TEST(Background, AfterAFailureNothingRuns) {
  Background background(1);
  std::atomic<int> ran{0};
  (void)background.post([&]() -> Status {
    ++ran;
    return bad_input("broken");
  });
  const Status failed = background.wait();
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message(), "broken");
  const Status refused = background.post([&]() -> Status {
    ++ran;
    return {};
  });
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message(), "broken");
  EXPECT_EQ(ran, 1);
}

TEST(Background, TheLastJobsAreDoneWhenItIsGone) {
  int done = 0;
  {
    Background background(8);
    for (int i = 0; i < 8; ++i)
      ASSERT_TRUE(background
                      .post([&]() -> Status {
                        ++done;
                        return {};
                      })
                      .ok());
  }
  EXPECT_EQ(done, 8);
}

}  // namespace
}  // namespace fettle
