// Replies with speculation are those without, token for token, whatever proposes and however tokens are
// drawn.
#include "speculation/testing.h"

namespace fettle {
namespace {

struct Way {
  const char* name;
  SamplingParams sampling;
};

std::vector<Way> ways() {
  SamplingParams greedy{}, warm{}, penalised{}, hot{};
  warm.temperature = 0.8;
  warm.top_p = 0.95;
  warm.seed = 7;
  penalised.temperature = 0.7;
  penalised.repetition_penalty = 1.1;
  penalised.frequency_penalty = 0.3;
  penalised.presence_penalty = 0.2;
  penalised.seed = 11;
  hot.temperature = 1.5;
  hot.top_k = 20;
  hot.min_p = 0.02;
  hot.seed = 13;
  return {{"greedy", greedy}, {"warm", warm}, {"penalised", penalised}, {"hot", hot}};
}

struct Setup {
  const char* model;
  const char* speculation;
};

class Replies : public testing::TestWithParam<Setup> {
 protected:
  // As generate() without speculation, in the fewest words.
  static std::vector<int32_t> plain(Executor& executor, const std::vector<int32_t>& prompt,
                                    const GenerateOptions& options) {
    Sequence sequence;
    Sampler sampler;
    std::vector<int32_t> out;
    auto logits = must(executor.feed(sequence, prompt, options.prefill_chunk));
    while (static_cast<int64_t>(out.size()) < options.max_tokens) {
      const auto position = static_cast<uint64_t>(sequence.length);
      const int32_t id = sampler.sample(logits, options.sampling, prompt, out, position).id;
      if (std::count(options.end_tokens.begin(), options.end_tokens.end(), id)) break;
      out.push_back(id);
      const SequenceInput input{&sequence, {&out.back(), 1}};
      logits = must(executor.forward({&input, 1}));
    }
    executor.cache().release(sequence);
    return out;
  }
  // Written once for all that is compared with it.
  static const std::vector<int32_t>& plain_once(Executor& executor, const std::string& key,
                                                const std::vector<int32_t>& prompt,
                                                const GenerateOptions& options) {
    static std::map<std::string, std::vector<int32_t>> written;
    const auto [it, fresh] = written.emplace(key, std::vector<int32_t>{});
    if (fresh) it->second = plain(executor, prompt, options);
    return it->second;
  }
};

TEST_P(Replies, AreTheSameTokenForToken) {
  const OpenedModel model = open_test_model(GetParam().model);
  const auto prompts = problem_prompts(model, 151);
  size_t tokens = 0;
  int64_t accepted = 0, drafted = 0;
  for (const Way& way : ways())
    for (const bool stops : {true, false}) {
      GenerateOptions options{.sampling = way.sampling, .max_tokens = 150, .prefill_chunk = 16};
      if (stops) options.end_tokens = end_tokens(model);
      for (size_t i = 0; i < prompts.size(); ++i) {
        const auto& prompt = prompts[i];
        options.speculation = {};
        const auto& expected =
            plain_once(*model.executor, fmt::format("{} {} {} {}", GetParam().model, way.name, stops, i),
                       prompt, options);
        options.speculation = must(parse_speculation(GetParam().speculation));
        Sequence sequence;
        const Reply reply = must(generate(*model.executor, sequence, prompt, options));
        ASSERT_EQ(reply.tokens, expected) << way.name << ", " << tokens << " tokens before";
        const auto fed = static_cast<int64_t>(prompt.size() + expected.size()) - (reply.ended ? 0 : 1);
        EXPECT_EQ(sequence.length, fed);
        tokens += expected.size();
        drafted += reply.drafted;
        accepted += reply.accepted;
        model.executor->cache().release(sequence);
      }
    }
  EXPECT_GT(tokens, 4000U);
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, drafted);
  EXPECT_EQ(model.executor->cache().free_blocks(), model.executor->cache().total_blocks());
}

TEST_P(Replies, TogetherAreThoseAlone) {
  const OpenedModel model = open_test_model(GetParam().model);
  const auto prompts = problem_prompts(model, 200);
  for (const Way& way : ways()) {
    GenerateOptions options{.sampling = way.sampling, .max_tokens = 80};
    options.end_tokens = end_tokens(model);
    std::vector<std::vector<int32_t>> expected;
    for (const auto& prompt : prompts) expected.push_back(plain(*model.executor, prompt, options));
    options.speculation = must(parse_speculation(GetParam().speculation));
    const auto replies = must(generate_together(*model.executor, prompts, options));
    for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(replies[i].tokens, expected[i]) << way.name;
  }
  EXPECT_EQ(model.executor->cache().free_blocks(), model.executor->cache().total_blocks());
}

// The caller may end a reply anywhere, and a reply may be cut anywhere: what the sequence holds is what was
// said, and a second turn goes on from there.
TEST_P(Replies, MayEndAnywhereAndGoOn) {
  const OpenedModel model = open_test_model(GetParam().model);
  Executor& executor = *model.executor;
  const auto prompt = problem_prompts(model, 2000)[0];
  const std::vector<int32_t> more = {7, 8, 9, 10, 11, 12};
  GenerateOptions options{.sampling = ways()[1].sampling, .max_tokens = 40};
  const auto whole = plain(executor, prompt, options);
  for (const bool by_callback : {false, true})
    for (size_t cut = 1; cut <= 9; ++cut) {
      std::vector<int32_t> text = prompt;
      text.insert(text.end(), whole.begin(), whole.begin() + static_cast<int64_t>(cut));
      text.insert(text.end(), more.begin(), more.end());
      options.speculation = {};
      options.max_tokens = 20;
      const auto expected = plain(executor, text, options);

      options.speculation = must(parse_speculation(GetParam().speculation));
      options.max_tokens = by_callback ? 40 : static_cast<int64_t>(cut);
      Sequence sequence;
      size_t told = 0;
      const Reply first = must(generate(executor, sequence, prompt, options,
                                        [&](int32_t) { return !by_callback || ++told < cut; }));
      ASSERT_EQ(first.tokens, std::vector<int32_t>(whole.begin(), whole.begin() + static_cast<int64_t>(cut)));
      // What is new: the token drawn last, and the next turn. One position more is fed again, as its draft
      // row was made with another token after it, or not at all.
      const int64_t kept = std::min(sequence.length - 1, std::max<int64_t>(sequence.drafted, 1));
      executor.cache().truncate(sequence, kept);
      options.max_tokens = 20;
      std::vector<int32_t> rest(text.begin() + kept, text.end());
      const Reply second = must(generate(executor, sequence, rest, options));
      // Penalties and seeds see the same prompt only if it is the whole text; these have none.
      EXPECT_EQ(second.tokens, expected) << "cut at " << cut;
      EXPECT_TRUE(second.drafted > 0 || options.speculation.kind != DraftKind::kMtp);
      executor.cache().release(sequence);
    }
}

TEST_P(Replies, EndWithTheContextAndTheCache) {
  const OpenedModel model = open_test_model(GetParam().model, false, 128);
  const auto prompt = problem_prompts(model, 2000)[0];
  GenerateOptions options;
  options.max_tokens = 1000;
  Sequence sequence;
  const Reply expected = must(generate(*model.executor, sequence, prompt, options));
  EXPECT_EQ(expected.tokens.size() + prompt.size(), 128U);
  model.executor->cache().release(sequence);
  options.speculation = must(parse_speculation(GetParam().speculation));
  EXPECT_EQ(must(generate(*model.executor, sequence, prompt, options)).tokens, expected.tokens);
}

INSTANTIATE_TEST_SUITE_P(Models, Replies,
                         testing::Values(Setup{"tiny-reasoner", "mtp:1"}, Setup{"tiny-reasoner", "mtp:2"},
                                         Setup{"tiny-reasoner", "mtp:3"}, Setup{"tiny-reasoner", "mtp:4"},
                                         Setup{"tiny-reasoner", "ngram:4"}, Setup{"tiny-distill", "ngram:2"},
                                         Setup{"tiny-distill", "ngram:8"}),
                         [](const auto& info) {
                           std::string name = std::string(info.param.model) + "_" + info.param.speculation;
                           for (char& c : name)
                             if (!isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

// The figure that the model's README gives for its own outputs, in its arithmetic: 99.98 %.
TEST(Acceptance, OfTheDraftLayerOnGreedyAnswers) {
  const OpenedModel model = open_test_model("tiny-reasoner", true);
  GenerateOptions options;
  options.max_tokens = 180;
  options.end_tokens = end_tokens(model);
  options.speculation = {DraftKind::kMtp, 1};
  int64_t drafted = 0, accepted = 0, tokens = 0;
  for (const auto& prompt : problem_prompts(model, 20)) {
    Sequence sequence;
    const Reply reply = must(generate(*model.executor, sequence, prompt, options));
    model.executor->cache().release(sequence);
    drafted += reply.drafted;
    accepted += reply.accepted;
    tokens += static_cast<int64_t>(reply.tokens.size());
  }
  const double share = static_cast<double>(accepted) / static_cast<double>(drafted);
  RecordProperty("accepted", std::to_string(accepted));
  RecordProperty("drafted", std::to_string(drafted));
  EXPECT_GT(drafted, 1500);
  EXPECT_GE(share, 0.99) << accepted << " of " << drafted;
  std::printf("%ld of %ld drafts accepted: %.2f %%\n", static_cast<long>(accepted),
              static_cast<long>(drafted), 100 * share);
}

TEST(Speculation, ADraftGraphThatIsNotThereProposesNothing) {
  const OpenedModel model = open_test_model("tiny-distill");
  const auto prompt = problem_prompts(model, 2000)[0];
  GenerateOptions options;
  options.max_tokens = 20;
  options.speculation = {DraftKind::kMtp, 2};
  Sequence sequence;
  const Reply reply = must(generate(*model.executor, sequence, prompt, options));
  EXPECT_EQ(reply.tokens.size(), 20U);
  EXPECT_EQ(reply.drafted, 0);
}

TEST(Speculation, NamesAreReadBack) {
  for (const char* text : {"none", "mtp:1", "mtp:16", "ngram:4"})
    EXPECT_EQ(speculation_text(must(parse_speculation(text))), text);
  EXPECT_EQ(speculation_text(must(parse_speculation("mtp"))), "mtp:1");
  for (const char* text : {"", "mpt", "mtp:", "mtp:0", "mtp:17", "mtp:1x", "none:1", "ngram:-1", "mtp:1:2"})
    EXPECT_FALSE(parse_speculation(text).ok()) << text;
}

// A model of windows and compressed entries, past several of their borders: what a rejected guess left in
// them is taken back. Its weights are random, so that most guesses are rejected.
TEST(RepliesOfStreams, AreTheSameWhenGuessesAreTakenBack) {
  const OpenedModel model = must(open_model(
      data("fixtures/deepseek_v4-native"),
      {.exact = true, .threads = 1, .cache_tokens = 2048, .speculation = Speculation{DraftKind::kMtp, 1}}));
  std::vector<int32_t> prompt;
  for (int i = 0; i < 50; ++i) prompt.push_back((i * 37 + i * i % 11) % 96);
  for (const double temperature : {0.0, 0.3}) {
    SamplingParams sampling{};
    sampling.temperature = temperature;
    sampling.seed = 3;
    GenerateOptions options{.sampling = sampling, .max_tokens = 350};
    std::vector<int32_t> expected;
    for (const char* way : {"none", "mtp:1", "mtp:3", "ngram:4"}) {
      options.speculation = must(parse_speculation(way));
      Sequence sequence;
      const Reply reply = must(generate(*model.executor, sequence, prompt, options));
      if (expected.empty()) expected = reply.tokens;
      EXPECT_EQ(reply.tokens, expected) << way;
      EXPECT_EQ(reply.tokens.size(), 350U);
      if (std::string(way) == "mtp:3") {
        EXPECT_GT(reply.drafted, reply.accepted);
      }
      model.executor->cache().release(sequence);
    }
  }
  const KvCache& cache = model.executor->cache();
  for (int64_t group = 0; group < 3; ++group)
    EXPECT_EQ(cache.free_blocks(group), cache.total_blocks(group)) << group;
}

}  // namespace
}  // namespace fettle
