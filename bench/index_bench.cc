// Scores of an index over a long past: entries scored a second and GF/s, of one token (the past shared out
// over the threads) and of tiles of tokens; and how long choosing takes.
//   index_bench [kernel name] [threads]
#include "kernels/index/index.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/huge_buffer.h"
#include "base/thread_pool.h"

namespace fettle {
namespace {

constexpr int kRounds = 7;
constexpr int64_t kHeads = 64, kDim = 128, kEntries = 32768, kTop = 2048, kTile = 8;

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void bench(const IndexKernel& kernel, ThreadPool& pool, int64_t tokens) {
  const KvShape kv = {kernel.type, 1, kDim, kDim, true};
  const int64_t stride = kv_block_bytes(kv), blocks = kEntries / kBlockTokens;
  HugeBuffer keys = HugeBuffer::allocate(static_cast<uint64_t>(blocks * stride)).value();
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> k(static_cast<size_t>(kDim)), q(static_cast<size_t>(tokens * kHeads * kDim)),
      w(static_cast<size_t>(tokens * kHeads));
  for (float& x : q) x = normal(generator);
  for (float& x : w) x = normal(generator);
  for (int64_t e = 0; e < kEntries; ++e) {
    for (float& x : k) x = normal(generator);
    kernel.write_kv(kv, k.data(), nullptr, keys.data() + e / kBlockTokens * stride, e % kBlockTokens);
  }
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  for (int64_t b = 0; b < blocks; ++b) table[static_cast<size_t>(b)] = static_cast<int32_t>(b);
  std::vector<float> scores(static_cast<size_t>(tokens * kEntries));
  std::vector<std::vector<float>> scratch(static_cast<size_t>(pool.size()));
  for (auto& s : scratch) s.resize(static_cast<size_t>(index_scratch_floats(kv, kHeads, kTile)));
  const auto score = [&] {
    pool.run([&](int worker) {
      const Slice mine = slice_of(blocks, worker, pool.size());
      for (int64_t t = 0; t < tokens; t += kTile)
        kernel.score({.kv = kv,
                      .heads = kHeads,
                      .scale = 0.01f,
                      .tokens = std::min(kTile, tokens - t),
                      .q = q.data() + t * kHeads * kDim,
                      .q_stride = kHeads * kDim,
                      .w = w.data() + t * kHeads,
                      .w_stride = kHeads,
                      .pool = keys.data(),
                      .block_stride = stride,
                      .table = table.data(),
                      .block_begin = mine.begin,
                      .block_end = mine.end,
                      .scores = scores.data() + t * kEntries + mine.begin * kBlockTokens,
                      .scores_stride = kEntries,
                      .scratch = scratch[static_cast<size_t>(worker)].data()});
    });
  };
  std::vector<int32_t> chosen(static_cast<size_t>(kTop));
  ChoiceRoom room;
  double scoring = 1e9, choosing = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    scoring = std::min(scoring, seconds(score));
    choosing = std::min(choosing,
                        seconds([&] { choose_entries(scores.data(), kEntries, kTop, chosen.data(), room); }));
  }
  const double count = static_cast<double>(tokens * kEntries);
  fmt::print(
      "{:18} {} threads {:3} tokens at {}  {:8.1f} M scores/s {:7.1f} GF/s  choosing {} of them {:.2f} ms\n",
      kernel.name, pool.size(), tokens, kEntries, count / scoring * 1e-6,
      count * 2 * kHeads * kDim / scoring * 1e-9, kTop, choosing * 1e3);
}

}  // namespace
}  // namespace fettle

int main(int argc, char** argv) {
  using namespace fettle;
  const std::string only = argc > 1 ? argv[1] : "";
  const int most_threads = argc > 2 ? std::atoi(argv[2]) : ThreadPool::available_processors();
  for (const IndexKernel& kernel : index_kernels()) {
    if (kernel.isa > detect_isa() || (only.empty() ? kernel.isa == Isa::kScalar : only != kernel.name))
      continue;
    for (int threads = 1; threads <= most_threads; threads *= 2) {
      ThreadPool pool(threads);
      for (const int64_t tokens : {1, 8, 64}) bench(kernel, pool, tokens);
    }
  }
  return 0;
}
