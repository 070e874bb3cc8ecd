// Published vectors of the generator, and the pipeline against an independent double-precision computation
// (tests/data/sampling).
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "runtime/sampler.h"

namespace fettle {
namespace {

Json load(const std::string& name) { return read_json_file(FETTLE_TEST_DATA "/sampling/" + name).value(); }

template <size_t kCount>
std::array<uint32_t, kCount> words(const Json& list) {
  std::array<uint32_t, kCount> out{};
  for (size_t i = 0; i < kCount; ++i)
    out[i] = static_cast<uint32_t>(std::stoul(list.at(i).get<std::string>(), nullptr, 16));
  return out;
}

TEST(Philox, KnownAnswers) {
  const Json file = load("philox.json");
  ASSERT_GE(file.at("known_answers").size(), 3u);
  for (const Json& answer : file.at("known_answers"))
    EXPECT_EQ(philox4x32(words<4>(answer.at("counter")), words<2>(answer.at("key"))),
              words<4>(answer.at("out")));
}

TEST(Philox, StreamOfUniforms) {
  const Json file = load("philox.json");
  for (const Json& step : file.at("stream"))
    EXPECT_EQ(uniform_at(step.at("seed").get<uint64_t>(), step.at("pos").get<uint64_t>()),
              step.at("u").get<double>());
}

SamplingParams params_of(const Json& json) {
  SamplingParams p;
  p.temperature = json.at("temperature").get<double>();
  p.top_k = json.at("top_k").get<int64_t>();
  p.top_p = json.at("top_p").get<double>();
  p.min_p = json.at("min_p").get<double>();
  p.repetition_penalty = json.at("repetition_penalty").get<double>();
  p.frequency_penalty = json.at("frequency_penalty").get<double>();
  p.presence_penalty = json.at("presence_penalty").get<double>();
  return p;
}

TEST(Pipeline, ProbabilitiesAndTokens) {
  const Json file = load("pipeline.json");
  const auto logits = file.at("logits").get<std::vector<float>>();
  const auto prompt = file.at("prompt_tokens").get<std::vector<int32_t>>();
  const auto output = file.at("output_tokens").get<std::vector<int32_t>>();
  ASSERT_EQ(file.at("cases").size(), 11u);
  Sampler sampler;
  double worst = 0;
  for (const Json& one : file.at("cases")) {
    SamplingParams params = params_of(one.at("params"));
    params.seed = file.at("uniform").at("seed").get<uint64_t>();
    if (params.temperature == 0) {
      EXPECT_EQ(sampler.sample(logits, params, prompt, output, 0).id, one.at("token").get<int32_t>());
      EXPECT_EQ(sampler.distribution(logits, params, prompt, output)[one.at("token").get<size_t>()], 1.0);
      continue;
    }
    const Json& expected = one.at("temperature_first");
    const auto p = sampler.distribution(logits, params, prompt, output);
    ASSERT_EQ(p.size(), logits.size());
    for (size_t id = 0; id < p.size(); ++id) {
      const auto it = expected.at("probs").find(std::to_string(id));
      const double wanted = it == expected.at("probs").end() ? 0.0 : it->get<double>();
      if (wanted > 0) worst = std::max(worst, std::fabs(p[id] / wanted - 1));
      ASSERT_NEAR(p[id], wanted, 1e-6 * wanted) << "id " << id << " of " << one.at("params").dump();
    }
    const auto tokens = expected.at("tokens").get<std::vector<int32_t>>();
    ASSERT_EQ(tokens.size(), 16u);
    for (size_t position = 0; position < tokens.size(); ++position)
      ASSERT_EQ(sampler.sample(logits, params, prompt, output, position).id, tokens[position])
          << "position " << position << " of " << one.at("params").dump();
  }
  RecordProperty("largest_relative_difference", std::to_string(worst));
}

}  // namespace
}  // namespace fettle
