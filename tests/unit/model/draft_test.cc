// The graph that drafts tokens, against the reference's results, the interpreter and itself: in chunks,
// beside the main graph, after the passes.
#include <algorithm>

#include "model/testing.h"

namespace fettle {
namespace {

const char* const kFolder = "deepseek_v3-mtp";

class Draft : public testing::Test {
 protected:
  explicit Draft(const char* folder = kFolder)
      : checkpoint_(must(Checkpoint::open(fixture(folder)))), built_(must(build_graph(checkpoint_))) {
    EXPECT_TRUE(built_.draft.has_value());
  }

  std::unique_ptr<Executor> executor(const AdaptedGraphs& graphs, bool exact, bool stream = false) {
    graphs_ = graphs;
    auto store = std::make_shared<TransientStore>(graphs_.graph, checkpoint_, exact, pool_);
    store->add(*graphs_.draft);
    return must(Executor::create({graphs_.graph, Plan{}, store, graphs_.draft}, {.threads = 2,
                                                                                 .isa = detect_isa(),
                                                                                 .max_tokens = 320,
                                                                                 .max_logit_rows = 320,
                                                                                 .cache_tokens = 512,
                                                                                 .stream = stream}));
  }
  std::unique_ptr<Executor> exact(bool stream = false) {
    return executor({built_.graph, built_.draft}, true, stream);
  }

  struct Rows {
    std::vector<float> logits, states, drafted;  // of the main graph, of the draft
  };
  // All of a sequence in steps of `chunk` tokens; each step's states are drafted from at once.
  Rows run(Executor& executor, const std::vector<int32_t>& ids, size_t chunk) {
    Sequence sequence;
    Rows rows;
    const auto width = static_cast<size_t>(executor.state_width());
    for (size_t at = 0; at < ids.size(); at += chunk) {
      const size_t n = std::min(chunk, ids.size() - at);
      const SequenceInput input{&sequence, std::span(ids).subspan(at, n), Logits::kAll};
      const auto logits = must(executor.forward({&input, 1}));
      rows.logits.insert(rows.logits.end(), logits.begin(), logits.end());
      rows.states.insert(rows.states.end(), executor.state(0), executor.state(0) + n * width);
      const size_t known = std::min(n, ids.size() - 1 - at);  // tokens that have one after them
      if (known == 0) break;
      const DraftInput draft{&sequence, static_cast<int64_t>(at), std::span(ids).subspan(at + 1, known),
                             executor.state(0), Logits::kAll};
      const auto drafted = must(executor.draft({&draft, 1}));
      rows.drafted.insert(rows.drafted.end(), drafted.begin(), drafted.end());
    }
    executor.cache().release(sequence);
    return rows;
  }

  Checkpoint checkpoint_;
  BuiltGraph built_;
  AdaptedGraphs graphs_;
  ThreadPool pool_{2};
};

TEST_F(Draft, LogitsAgreeWithTheReference) {
  auto model = exact();
  const Reference reference(fixture(kFolder) + "/reference.safetensors");
  for (const char* name : {"t2", "t24", "t70"}) {
    const std::string key = std::string("cases/") + name + "/";
    const auto ids = reference.ids(key + "input_ids");
    const Rows whole = run(*model, ids, 128);
    EXPECT_LT(relative_l2(whole.logits, reference.floats(key + "logits")), 1e-4) << key;
    EXPECT_LT(relative_l2(whole.drafted, reference.floats(key + "mtp/logits")), 1e-4) << key;
    EXPECT_GT(relative_l2(whole.drafted, reference.floats(key + "mtp/logits_prenorm")), 1e-2) << key;
    for (const size_t chunk : {1, 5, 16}) {
      const Rows rows = run(*model, ids, chunk);
      EXPECT_EQ(rows.logits, whole.logits) << key << " chunk " << chunk;
      EXPECT_EQ(rows.drafted, whole.drafted) << key << " chunk " << chunk;
    }
  }
}

// A state of several residual streams.
class DraftOfStreams : public Draft {
 protected:
  DraftOfStreams() : Draft("deepseek_v4-native") {}
};

TEST_F(DraftOfStreams, LogitsAgreeWithTheReference) {
  auto model = exact();
  EXPECT_EQ(model->state_width(), 4 * 128);
  EXPECT_TRUE(built_.unused_tensors.empty()) << built_.unused_tensors.front();
  const Reference reference(fixture("deepseek_v4-native") + "/reference.safetensors");
  for (const char* name : {"t5", "t130", "t290"}) {
    const std::string key = std::string("cases/") + name + "/";
    const auto ids = reference.ids(key + "input_ids");
    const Rows whole = run(*model, ids, 320);
    EXPECT_LT(relative_l2(whole.logits, reference.floats(key + "logits")), 1e-4) << key;
    EXPECT_LT(relative_l2(whole.drafted, reference.floats(key + "mtp/logits")), 1e-4) << key;
    for (const size_t chunk : {1, 16}) {
      const Rows rows = run(*model, ids, chunk);
      EXPECT_EQ(rows.logits, whole.logits) << key << " chunk " << chunk;
      EXPECT_EQ(rows.drafted, whole.drafted) << key << " chunk " << chunk;
    }
  }
}

TEST_F(Draft, TheInterpreterAgrees) {
  auto model = exact();
  const Reference reference(fixture(kFolder) + "/reference.safetensors");
  const auto ids = reference.ids("cases/t24/input_ids");
  const Rows rows = run(*model, ids, 128);
  const Evaluator evaluator(checkpoint_);
  const auto decoded = [&](const std::string& name, int64_t member) {
    return evaluator.decode(*built_.draft->find_weight(name)->expr, member);
  };
  const size_t known = ids.size() - 1;
  const auto values =
      must(interpret(*built_.draft, decoded, std::span(ids).subspan(1),
                     std::span(rows.states).first(known * static_cast<size_t>(model->state_width()))));
  EXPECT_LT(relative_l2(values.back(), rows.drafted), 1e-5);
}

// Guesses behind the known rows are written over once more is known, and nothing sees them then.
TEST_F(Draft, GuessesLeaveNoTrace) {
  auto model = exact();
  std::vector<int32_t> ids;
  for (int i = 0; i < 90; ++i) ids.push_back((i * 37 + 5) % 144);
  const Rows expected = run(*model, ids, 128);
  const auto width = static_cast<size_t>(model->state_width());
  const size_t vocab = 144;
  Sequence sequence;
  for (size_t at = 0; at + 1 < ids.size(); ++at) {
    const SequenceInput input{&sequence, std::span(ids).subspan(at, 1), Logits::kLast};
    must(model->forward({&input, 1}));
    const std::vector<float> state(model->state(0), model->state(0) + width);
    DraftInput draft{&sequence, static_cast<int64_t>(at), std::span(ids).subspan(at + 1, 1), state.data()};
    const auto logits = must(model->draft({&draft, 1}));
    ASSERT_TRUE(
        std::equal(logits.begin(), logits.end(), expected.drafted.begin() + static_cast<int64_t>(at * vocab)))
        << "row " << at;
    for (int guess = 1; guess <= 3; ++guess) {
      const int32_t wrong = static_cast<int32_t>((at * 11 + static_cast<size_t>(guess)) % vocab);
      draft = {&sequence, static_cast<int64_t>(at) + guess, {&wrong, 1}, model->draft_state(0)};
      must(model->draft({&draft, 1}));
    }
    EXPECT_EQ(sequence.length, static_cast<int64_t>(at) + 1);
  }
  model->cache().truncate(sequence, sequence.length);  // gives back what the guesses took
  EXPECT_EQ(sequence.tables[0].size(), 2U);
  model->cache().release(sequence);
  EXPECT_EQ(model->cache().free_blocks(), model->cache().total_blocks());
}

TEST_F(Draft, CompanyAndStreamingDoNotMatter) {
  std::vector<std::vector<int32_t>> texts;
  for (size_t n : {2, 30, 65}) {
    std::vector<int32_t>& ids = texts.emplace_back();
    for (size_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>((i * i * 31 + n * 7 + i) % 144));
  }
  for (const bool stream : {false, true}) {
    auto model = exact(stream);
    std::vector<Rows> expected;
    for (const auto& ids : texts) expected.push_back(run(*model, ids, 128));
    std::vector<Sequence> sequences(texts.size());
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < texts.size(); ++i) inputs.push_back({&sequences[i], texts[i], Logits::kNone});
    must(model->forward(inputs));
    std::vector<DraftInput> drafts;
    int64_t row = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      drafts.push_back({&sequences[i], 0, std::span(texts[i]).subspan(1), model->state(row), Logits::kAll});
      row += static_cast<int64_t>(texts[i].size());
    }
    const auto logits = must(model->draft(drafts));
    auto at = logits.begin();
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_TRUE(std::equal(expected[i].drafted.begin(), expected[i].drafted.end(), at)) << "text " << i;
      at += static_cast<int64_t>(expected[i].drafted.size());
    }
  }
}

TEST_F(Draft, PassesTreatItLikeTheMainGraph) {
  std::map<std::string, std::string> schemes;
  for (const WeightGroup& group : weight_groups(built_.graph))
    for (const std::string& weight : group.weights)
      schemes[weight] = group.name.find("experts") == std::string::npos ? "i8c" : "i4g32";
  add_draft_schemes(built_.graph, *built_.draft, &schemes);
  EXPECT_EQ(schemes.at("layers.2.o"), "i8c");
  EXPECT_EQ(schemes.at("layers.2.join"), "i8c");  // has no like: as most are
  PassOptions options;
  options.schemes = schemes;
  PassNotes notes;
  const AdaptedGraphs adapted = must(adapt_graphs(built_.graph, built_.draft, options, &notes));
  for (const std::string& note : notes) EXPECT_EQ(note.find("no matrix"), std::string::npos) << note;
  EXPECT_EQ(adapted.draft->find_weight("head")->expr->scheme, Scheme::kI8C);
  EXPECT_EQ(adapted.draft->find_weight("layers.2.experts.gate")->expr->scheme,
            adapted.graph.find_weight("layers.1.experts.gate")->expr->scheme);
  EXPECT_EQ(print_graph(must(parse_graph(print_graph(*adapted.draft), "again"))),
            print_graph(*adapted.draft));

  // The rounded graph is close to the source's.
  const Reference reference(fixture(kFolder) + "/reference.safetensors");
  const auto ids = reference.ids("cases/t24/input_ids");
  const Rows source = run(*exact(), ids, 128);
  auto model = executor(adapted, false);
  const Rows rounded = run(*model, ids, 7);
  EXPECT_LT(relative_l2(rounded.drafted, source.drafted), 0.3);
  EXPECT_GT(relative_l2(rounded.drafted, source.drafted), 0);
}

TEST_F(Draft, ItsWeightsAreCountedOnce) {
  const auto all = all_weights(built_.graph, built_.draft);
  int64_t sum = 0;
  for (const Weight& w : all) sum += w.expr->parameters();
  EXPECT_EQ(sum, built_.graph.parameters() + draft_parameters(built_.graph, *built_.draft));
  int copies = 0;
  for (const std::string& unused : built_.unused_tensors)
    copies += unused.find("bit for bit") != std::string::npos;
  EXPECT_EQ(copies, 2) << "embedding and head of the draft layer are copies";
  EXPECT_EQ(built_.unused_tensors.size(), 2U);
}

TEST_F(Draft, ADraftThatDoesNotFitIsRefused) {
  const std::string text = print_graph(*built_.draft);
  const auto refused = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    for (size_t at = changed.find(from); at != std::string::npos; at = changed.find(from, at + to.size()))
      changed.replace(at, from.size(), to);
    EXPECT_NE(changed, text) << from;
    const auto draft = parse_graph(changed, "draft.fir");
    if (!draft.ok()) return draft.error().message();
    const Status fits = verify_draft(built_.graph, *draft);
    return fits.ok() ? std::string() : fits.error().message();
  };
  EXPECT_NE(refused("context=", "context=1").find("context"), std::string::npos);
  EXPECT_NE(refused("lm_head", "other_head").find("@head"), std::string::npos);
  EXPECT_NE(refused("cache 2 ", "cache 1 ").find("layer"), std::string::npos);
  EXPECT_NE(refused("state() cols=64", "state() cols=0").find("0 columns"), std::string::npos);
  EXPECT_NE(verify_draft(*built_.draft, *built_.draft).error().message().find("layer 2"), std::string::npos);
}

}  // namespace
}  // namespace fettle
