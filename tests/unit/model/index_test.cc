// The index: which entries of the past each token chooses, against the interpreter, and whatever the batch,
// the chunks and the threads are.
#include "model/random_weights.h"

namespace fettle {
namespace {

struct Shape {
  int64_t heads, dim, rate, top;
  const char* type;
};

constexpr ValueId kIndexNode = 6, kAttentionNode = 13;

// One layer whose latent attention reads what the index chooses.
Graph index_graph(const Shape& s) {
  Graph graph = must(parse_graph(fmt::format(R"(graph "index" vocab=64 hidden=16 layers=1 context=4096
rope @rope halves scale=1 inv_freq=[1, 0.1]
cache 0 latent kv_heads=1 k_dim=12 v_dim=8 type={4}
cache 0 index latent kv_heads=1 k_dim={1} v_dim={1} type={4}
weight @embed = source("e", f32, [64, 16])
weight @q = source("q", f32, [{2}, 16])
weight @k = source("k", f32, [{1}, 16])
weight @w = source("w", f32, [{0}, 16])
weight @query = source("a", f32, [30, 16])
weight @kv = source("c", f32, [12, 16])
weight @key = source("m", f32, [3, 8, 6])
weight @value = source("v", f32, [3, 5, 8])
weight @o = source("o", f32, [16, 15])
%0 : f32[T, 16] = embed() w=[@embed]
%1 : f32[T, {2}] = linear(%0) w=[@q] layer=0
%2 : f32[T, {1}] = linear(%0) w=[@k] layer=0
%3 : f32[T, {0}] = linear(%0) w=[@w] layer=0
%4 : f32[T, {2}] = rope(%1) at=0 heads={0} rope=rope layer=0
%5 : f32[T, {1}] = rope(%2) at=0 heads=1 rope=rope layer=0
%6 : selection[T, {3}] = index(%4, %5, %3) heads={0} rate=1 scale=0.25 top={3} layer=0
%7 : f32[T, 30] = linear(%0) w=[@query] layer=0
%8 : f32[T, 30] = rope(%7) at=6 heads=3 rope=rope layer=0
%9 : f32[T, 12] = linear(%0) w=[@kv] layer=0
%10 : f32[T, 8] = columns(%9) begin=0 size=8 layer=0
%11 : f32[T, 4] = columns(%9) begin=8 size=4 layer=0
%12 : f32[T, 4] = rope(%11) at=0 heads=1 rope=rope layer=0
%13 : f32[T, 15] = latent_attention(%8, %10, %12, %6) w=[@key, @value] heads=3 inner=f32 scale=0.5 layer=0
%14 : f32[T, 16] = linear(%13) w=[@o] layer=0
%15 : f32[T, 16] = add(%0, %14) layer=0
%16 : f32[R, 16] = select_rows(%15)
%17 : f32[R, 64] = linear(%16) w=[@embed]
)",
                                             s.heads, s.dim, s.heads * s.dim, s.top, s.type),
                                 "index.fir"));
  // Entries of several tokens are no positions that this attention could read: it reads all.
  if (s.rate > 1) {
    graph.nodes[kIndexNode].attrs["rate"] = s.rate;
    graph.caches[1].rate = s.rate;
    graph.nodes[kAttentionNode].inputs.pop_back();
  }
  return graph;
}

std::vector<int32_t> tokens(int64_t n, int32_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>((i * i * 31 + i * 7 + seed) % 64));
  return ids;
}

// An executor that keeps what the index chose in each forward.
struct Chooser {
  Graph graph;
  std::unique_ptr<Executor> executor;
  std::vector<float> chosen, logits;

  Chooser(const Shape& shape, int threads) : graph(index_graph(shape)) { open(threads); }
  void open(int threads) {
    executor =
        must(Executor::create({graph, Plan{}, std::make_shared<RandomStore>(graph)}, {.threads = threads,
                                                                                      .isa = detect_isa(),
                                                                                      .max_tokens = 512,
                                                                                      .max_logit_rows = 512,
                                                                                      .cache_tokens = 8192}));
    executor->observe({kIndexNode}, [this](ValueId, const float* data, int64_t rows, int64_t cols, int64_t) {
      chosen.insert(chosen.end(), data, data + rows * cols);
    });
  }
  std::vector<float> alone(const std::vector<int32_t>& ids, int64_t chunk) {
    chosen.clear();
    logits.clear();
    Sequence sequence;
    must(executor->feed(sequence, ids, chunk, [this](int64_t, std::span<const float> rows, int64_t) {
      logits.insert(logits.end(), rows.begin(), rows.end());
    }));
    executor->cache().release(sequence);
    return chosen;
  }
};

class Index : public testing::TestWithParam<Shape> {};
class ExactIndex : public Index {};     // the interpreter knows no rounded cache
class PositionIndex : public Index {};  // whose choice attention reads

TEST_P(ExactIndex, ChoosesAsTheInterpreterDoes) {
  const std::vector<int32_t> ids = tokens(400, 3);
  Chooser chooser(GetParam(), 2);
  const auto found = chooser.alone(ids, 512);
  const auto values = must(interpret(chooser.graph, random_weights(chooser.graph), ids));
  const auto& expected = values[kIndexNode];
  ASSERT_EQ(found.size(), expected.size());
  // Sums in fp32 may rank two entries the other way that are level in double.
  int64_t other = 0;
  for (size_t i = 0; i < found.size(); ++i) other += found[i] != expected[i];
  EXPECT_LE(other, static_cast<int64_t>(found.size()) / 1000);
  for (size_t row = 0; row < ids.size(); ++row)
    for (int64_t i = 0; i < GetParam().top; ++i) {
      const int64_t visible = (static_cast<int64_t>(row) + 1) / GetParam().rate;
      const float entry = found[row * static_cast<size_t>(GetParam().top) + static_cast<size_t>(i)];
      ASSERT_EQ(entry >= 0, i < visible) << "row " << row;
      if (visible <= GetParam().top && i < visible) {
        ASSERT_EQ(entry, static_cast<float>(i));
      }
    }
}

TEST_P(ExactIndex, AttentionReadsWhatIsChosen) {
  const std::vector<int32_t> ids = tokens(200, 9);
  Chooser chooser(GetParam(), 2);
  chooser.alone(ids, 70);
  const auto values = must(interpret(chooser.graph, random_weights(chooser.graph), ids));
  for (size_t row = 0; row < ids.size(); ++row) {
    const auto same = [&](const auto& a, const auto& b, size_t cols) {
      return std::equal(a.begin() + row * cols, a.begin() + (row + 1) * cols, b.begin() + row * cols);
    };
    if (!same(chooser.chosen, values[kIndexNode], static_cast<size_t>(GetParam().top))) continue;
    for (size_t i = row * 64; i < (row + 1) * 64; ++i)
      ASSERT_NEAR(chooser.logits[i], values.back()[i], 2e-5) << "row " << row;
  }
}

TEST_P(Index, ChunksAndThreadsDoNotMatter) {
  const std::vector<int32_t> ids = tokens(1100 * std::min<int64_t>(GetParam().rate, 2), 5);
  Chooser first(GetParam(), 1);
  first.alone(ids, 512);
  for (const auto& [threads, chunk] : {std::pair<int, int64_t>{1, 7}, {2, 1}, {3, 100}}) {
    Chooser other(GetParam(), threads);
    EXPECT_EQ(first.chosen, other.alone(ids, chunk)) << threads << " " << chunk;
    EXPECT_EQ(first.logits, other.logits) << threads << " " << chunk;
  }
}

// As long as all of the past is chosen, the bits are those of attention over all of it.
TEST_P(PositionIndex, ChoosingAllIsAttendingToAll) {
  Shape shape = GetParam();
  shape.top = 1500;
  const std::vector<int32_t> ids = tokens(1300, 11);
  Chooser sparse(shape, 2), dense(shape, 2);
  dense.graph.nodes[kAttentionNode].inputs.pop_back();
  dense.open(2);
  for (const int64_t chunk : {1, 300}) {
    sparse.alone(ids, chunk);
    dense.alone(ids, chunk);
    EXPECT_EQ(sparse.logits, dense.logits) << chunk;
  }
}

TEST_P(Index, CompanyDoesNotMatter) {
  Chooser chooser(GetParam(), 2);
  std::vector<std::vector<int32_t>> all = {tokens(1, 1), tokens(70, 2), tokens(130, 3), tokens(300, 4)};
  std::vector<float> expected;
  for (const auto& ids : all) {
    const auto one = chooser.alone(ids, 64);
    expected.insert(expected.end(), one.begin(), one.end());
  }
  std::vector<Sequence> states(all.size());
  std::vector<SequenceInput> inputs;
  for (size_t i = 0; i < all.size(); ++i) inputs.push_back({&states[i], all[i], Logits::kLast});
  chooser.chosen.clear();
  must(chooser.executor->forward(inputs));
  EXPECT_EQ(chooser.chosen, expected);
}

std::string shape_name(const testing::TestParamInfo<Shape>& info) {
  return fmt::format("rate{}_top{}_{}", info.param.rate, info.param.top, info.param.type);
}
constexpr Shape kFew{4, 16, 1, 8, "f32"}, kMany{2, 12, 1, 600, "f32"}, kRounded{8, 32, 1, 64, "bf16"},
    kEntries{3, 8, 4, 20, "f32"}, kRoundedEntries{2, 16, 4, 16, "bf16"};
INSTANTIATE_TEST_SUITE_P(Shapes, Index, testing::Values(kFew, kMany, kRounded, kEntries, kRoundedEntries),
                         shape_name);
INSTANTIATE_TEST_SUITE_P(Shapes, ExactIndex, testing::Values(kFew, kMany, kEntries), shape_name);
INSTANTIATE_TEST_SUITE_P(Shapes, PositionIndex, testing::Values(kFew, kRounded), shape_name);

}  // namespace
}  // namespace fettle
