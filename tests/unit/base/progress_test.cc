#include "base/progress.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace fettle {
namespace {

TEST(FormatBytes, PowersOfTen) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.0 kB");
  EXPECT_EQ(format_bytes(98400000), "98.4 MB");
  EXPECT_EQ(format_bytes(3086574240), "3.1 GB");
  EXPECT_EQ(format_bytes(720000000000), "720.0 GB");
  EXPECT_EQ(format_bytes(5000000000000000), "5000.0 TB");
}

TEST(FormatBytes, RoundsUpIntoTheNextUnit) {
  EXPECT_EQ(format_bytes(999949), "999.9 kB");
  EXPECT_EQ(format_bytes(999960), "1.0 MB");
  EXPECT_EQ(format_bytes(999999999), "1.0 GB");
}

TEST(FormatDuration, Units) {
  EXPECT_EQ(format_duration(0), "0 ms");
  EXPECT_EQ(format_duration(0.85), "850 ms");
  EXPECT_EQ(format_duration(1.25), "1.2 s");
  EXPECT_EQ(format_duration(12.3), "12 s");
  EXPECT_EQ(format_duration(184), "3 min 04 s");
  EXPECT_EQ(format_duration(3661), "1 h 01 min");
}

TEST(FormatDuration, RoundsUpIntoTheNextUnit) {
  EXPECT_EQ(format_duration(0.9996), "1.0 s");
  EXPECT_EQ(format_duration(9.97), "10 s");
  EXPECT_EQ(format_duration(59.7), "1 min 00 s");
  EXPECT_EQ(format_duration(3599.8), "1 h 00 min");
}

class ProgressOutput : public testing::Test {
 protected:
  void TearDown() override { Progress::set_mode(ProgressMode::kAuto); }
};

TEST_F(ProgressOutput, ShortStepsAndQuietModePrintNothing) {
  testing::internal::CaptureStderr();
  { Progress("short", 10).add(10); }
  Progress::set_mode(ProgressMode::kQuiet);
  {
    Progress progress("quiet", 10);
    progress.add(3);
    std::this_thread::sleep_for(std::chrono::milliseconds(1050));
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(ProgressOutput, LongStepsEndInOnePlainLine) {
  testing::internal::CaptureStderr();  // not a terminal
  {
    Progress progress("packing", 2000000, ProgressUnit::kBytes);
    progress.skip(500000);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        for (int j = 0; j < 1000; ++j) progress.add(250);
      });
    for (std::thread& t : threads) t.join();
    std::this_thread::sleep_for(std::chrono::milliseconds(1050));
    progress.finish();
    progress.finish();
  }
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_NE(text.find("packing   75 %  1.5 MB / 2.0 MB"), std::string::npos) << text;
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

}  // namespace
}  // namespace fettle
