// The one-pass estimates against what they estimate: the drift of the whole model with one group coded.
#include "fit/sensitivity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "arch/arch.h"
#include "quality/builtin_text.h"

namespace fettle {
namespace {

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message();
    std::abort();
  }
  return std::move(result).value();
}

TEST(Sensitivity, EstimatesComeCloseToWhatTheyEstimate) {
  const Checkpoint checkpoint = must(Checkpoint::open(FETTLE_TEST_DATA "/tiny-distill"));
  const Graph source = must(build_graph(checkpoint)).graph;
  const auto tokenizer = must(Tokenizer::load(must(checkpoint.text_files())));
  auto windows = must(make_windows(*tokenizer, std::string(calibration_text()), 128));
  windows.resize(4);
  const auto run = must(CalibrationRun::create(
      {checkpoint, source, windows, {"i4g32", "i8c"}, PassOptions{}, 2, detect_isa(), MemoryBound{}}));
  const std::vector<WeightGroup> groups = weight_groups(source);
  const std::vector<Sensitivity> estimates = must(run->measure(groups));
  ASSERT_EQ(estimates.size(), groups.size() * 2);

  const double carried = must(run->drift_of({})).kld_mean.value;
  double log_error = 0, estimated_sum = 0, measured_sum = 0;
  int compared = 0;
  for (size_t i = 0; i < estimates.size(); i += 5) {
    const Sensitivity& e = estimates[i];
    std::map<std::string, std::string> schemes;
    for (const WeightGroup& g : groups)
      if (g.name == e.group)
        for (const std::string& weight : g.weights) schemes[weight] = e.scheme;
    const double measured = must(run->drift_of(schemes)).kld_mean.value - carried;
    ASSERT_GT(measured, 0) << e.group << " " << e.scheme;
    EXPECT_LT(std::abs(std::log(e.kld / measured)), std::log(2.5))
        << e.group << " " << e.scheme << ": " << e.kld << " estimated, " << measured << " measured";
    log_error += std::abs(std::log(e.kld / measured));
    estimated_sum += e.kld;
    measured_sum += measured;
    ++compared;
  }
  EXPECT_LT(log_error / compared, std::log(1.5));
  EXPECT_NEAR(estimated_sum / measured_sum, 1, 0.3);
}

}  // namespace
}  // namespace fettle
