// Attention against the limits of the machine: decode in GB/s of cache read beside a plain read of the same
// memory, prefill in GF/s beside a loop of nothing but multiply-adds. Rounds measure the limit and the kernel
// in turn; the best of each counts.
//   attention_bench [kernel name] [threads]
#include <fmt/core.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/huge_buffer.h"
#include "base/thread_pool.h"
#include "kernels/attention/attention.h"

namespace fettle {
namespace {

constexpr int kRounds = 7;
constexpr int64_t kTokensAUnit = 32;          // of a prefill: what one call computes
constexpr uint64_t kCacheBytes = 256u << 20;  // far beyond the processor's caches
constexpr uint64_t kPrefillBytes = 24u << 20;

struct ModelShape {
  const char* name;
  int64_t heads, kv_heads, dim;
};
constexpr ModelShape kModels[] = {
    {"smol 9/3x64", 9, 3, 64}, {"1.5B 12/2x128", 12, 2, 128}, {"8B 32/8x128", 32, 8, 128}};

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double best(const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); }

// Layers of one model's cache, each filled to `depth + tokens`, and the attention of the last `tokens` tokens
// in all of them.
class Case {
 public:
  Case(const AttentionKernel& kernel, const ModelShape& model, int64_t depth, int64_t tokens,
       uint64_t cache_bytes)
      : kernel_(kernel),
        model_(model),
        depth_(depth),
        tokens_(tokens),
        kv_{kernel.type, model.kv_heads, model.dim, model.dim},
        block_bytes_(kv_block_bytes(kv_)),
        blocks_((depth + tokens + kBlockTokens - 1) / kBlockTokens),
        layers_(std::max<int64_t>(1, static_cast<int64_t>(cache_bytes) / (blocks_ * block_bytes_))),
        splits_((depth + tokens - 1) / kSplitTokens + 1),
        row_floats_(2 + model.dim),
        buffer_(HugeBuffer::allocate(static_cast<uint64_t>(layers_ * blocks_ * block_bytes_)).value()),
        q_(static_cast<size_t>(tokens * model.heads * model.dim)),
        out_(q_.size()),
        partials_(static_cast<size_t>(splits_ * tokens * model.heads * row_floats_)),
        table_(static_cast<size_t>(blocks_)) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    for (float& x : q_) x = normal(generator);
    for (int64_t b = 0; b < blocks_; ++b) table_[b] = static_cast<int32_t>(b);
    std::shuffle(table_.begin(), table_.end(), generator);
    std::vector<float> k(static_cast<size_t>(model.kv_heads * model.dim)), v(k.size());
    for (int64_t slot = 0; slot < layers_ * blocks_ * kBlockTokens; ++slot) {
      if (slot < 1024)
        for (size_t i = 0; i < k.size(); ++i) k[i] = normal(generator), v[i] = normal(generator);
      kernel.write_kv(kv_, k.data(), v.data(), buffer_.data() + slot / kBlockTokens * block_bytes_,
                      slot % kBlockTokens);
    }
  }

  void run(ThreadPool& pool) {
    std::vector<std::vector<float>> scratch(static_cast<size_t>(pool.size()));
    for (auto& s : scratch) s.resize(static_cast<size_t>(attention_scratch_floats(kv_, model_.heads)));
    const int64_t tiles = (tokens_ + kTokensAUnit - 1) / kTokensAUnit,
                  units = model_.kv_heads * tiles * splits_;
    for (int64_t layer = 0; layer < layers_; ++layer)
      pool.run([&](int worker) {
        // Units differ in cost only where a split ends early; dealing them out in turn is even enough here.
        for (int64_t u = worker; u < units; u += pool.size())
          attend(layer, u % model_.kv_heads, u / model_.kv_heads / splits_, u / model_.kv_heads % splits_,
                 scratch[worker].data());
        pool.barrier(worker);
        for (int64_t row = worker; splits_ > 1 && row < tokens_ * model_.heads; row += pool.size())
          merge_splits(partials_.data() + row * row_floats_, tokens_ * model_.heads * row_floats_, splits_,
                       model_.dim, out_row(row));
      });
  }

  double bytes_read() const {
    const double number = kernel_.type == KvType::kF32 ? 4.0 : 2.0;
    return static_cast<double>(layers_ * (depth_ + tokens_) * model_.kv_heads * 2 * model_.dim) * number;
  }
  double flops() const {
    const double pairs =
        static_cast<double>(tokens_ * depth_) + static_cast<double>(tokens_ * (tokens_ + 1)) / 2;
    return pairs * static_cast<double>(layers_ * model_.heads * 4 * model_.dim);
  }
  double tokens() const { return static_cast<double>(layers_ * tokens_); }
  const HugeBuffer& buffer() const { return buffer_; }

 private:
  // Partial results lie [split][kv head][token][query head of the group].
  int64_t group() const { return model_.heads / model_.kv_heads; }
  float* out_row(int64_t row) {
    const int64_t kv_head = row / (tokens_ * group()), token = row / group() % tokens_;
    return out_.data() + (token * model_.heads + kv_head * group() + row % group()) * model_.dim;
  }
  void attend(int64_t layer, int64_t kv_head, int64_t tile, int64_t split, float* scratch) {
    AttentionArgs args = {};
    args.kv = kv_;
    args.heads = model_.heads;
    args.scale = 1.0f / 8.0f;
    args.q = q_.data();
    args.out = out_.data();
    args.q_stride = args.out_stride = model_.heads * model_.dim;
    args.pool = buffer_.data() + layer * blocks_ * block_bytes_;
    args.block_stride = block_bytes_;
    args.table = table_.data();
    args.first_position = depth_;
    args.kv_head = kv_head;
    args.token_begin = tile * kTokensAUnit;
    args.token_end = std::min(args.token_begin + kTokensAUnit, tokens_);
    args.split = split;
    const int64_t row = (split * model_.kv_heads + kv_head) * tokens_ + args.token_begin;
    args.partial = splits_ == 1 ? nullptr : partials_.data() + row * group() * row_floats_;
    args.scratch = scratch;
    kernel_.run(args);
  }

  const AttentionKernel& kernel_;
  ModelShape model_;
  int64_t depth_, tokens_;
  KvShape kv_;
  int64_t block_bytes_, blocks_, layers_, splits_, row_floats_;
  HugeBuffer buffer_;
  std::vector<float> q_, out_, partials_;
  std::vector<int32_t> table_;
};

// GB/s of reading memory from end to end, on every thread its share.
double read_gbs(const HugeBuffer& buffer, ThreadPool& pool) {
  std::vector<uint64_t> sums(static_cast<size_t>(pool.size()) * 16);
  const double time = seconds([&] {
    pool.run([&](int worker) {
      const Slice slice = slice_of(static_cast<int64_t>(buffer.size()), worker, pool.size(), 4096);
      uint64_t lanes[16] = {};
      for (int64_t at = slice.begin; at + 128 <= slice.end; at += 128) {
        const uint64_t* p = reinterpret_cast<const uint64_t*>(buffer.data() + at);
        for (int i = 0; i < 16; ++i) lanes[i] += p[i];
      }
      for (const uint64_t lane : lanes) sums[static_cast<size_t>(worker) * 16] += lane;
    });
  });
  volatile uint64_t sink = sums[0];
  (void)sink;
  return static_cast<double>(buffer.size()) / time * 1e-9;
}

#if defined(__x86_64__)
constexpr int64_t kPeakSteps = 4'000'000;

__attribute__((target("avx512f"))) float f32_steps() {
  __m512 sums[12];
  for (int i = 0; i < 12; ++i) sums[i] = _mm512_set1_ps(1.0f + static_cast<float>(i));
  const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f);
  for (int64_t s = 0; s < kPeakSteps; ++s)
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sums[i] = _mm512_fmadd_ps(sums[i], x, y);
  for (int i = 1; i < 12; ++i) sums[0] = _mm512_maskz_add_ps(0xffff, sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f,avx512bf16"))) float bf16_steps() {
  __m512 sums[12];
  for (int i = 0; i < 12; ++i) sums[i] = _mm512_set1_ps(1.0f + static_cast<float>(i));
  const __m512i x = _mm512_set1_epi32(0x3c003c00 + static_cast<int>(sums[0][0]));
  for (int64_t s = 0; s < kPeakSteps; ++s)
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)x, (__m512bh)x);
  for (int i = 1; i < 12; ++i) sums[0] = _mm512_maskz_add_ps(0xffff, sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}

// GF/s of the multiply-adds that the type's best kernel is made of; 0 where the machine has none.
double peak_gfs(KvType type, ThreadPool& pool) {
  if (detect_isa() < (type == KvType::kF32 ? Isa::kAvx512 : Isa::kAvx512Bf16)) return 0.0;
  std::vector<float> sinks(static_cast<size_t>(pool.size()) * 16);
  const double time = seconds([&] {
    pool.run([&](int worker) { sinks[worker * 16] = type == KvType::kF32 ? f32_steps() : bf16_steps(); });
  });
  const double flops = type == KvType::kF32 ? 32.0 : 64.0;
  return static_cast<double>(kPeakSteps * 12 * pool.size()) * flops / time * 1e-9;
}
#else
double peak_gfs(KvType, ThreadPool&) { return 0.0; }
#endif

void bench_decode(const AttentionKernel& kernel, const ModelShape& model, ThreadPool& pool) {
  Case work(kernel, model, 4096, 1, kCacheBytes);
  std::vector<double> limit, found;
  for (int round = 0; round < kRounds; ++round) {
    limit.push_back(read_gbs(work.buffer(), pool));
    found.push_back(work.bytes_read() / seconds([&] { work.run(pool); }) * 1e-9);
  }
  fmt::print("{:18} {:14} {} threads  decode at 4096        {:7.1f} GB/s of {:6.1f}  {:4.0f} %\n",
             kernel.name, model.name, pool.size(), best(found), best(limit),
             100.0 * best(found) / best(limit));
}

void bench_prefill(const AttentionKernel& kernel, const ModelShape& model, int64_t depth, int64_t tokens,
                   ThreadPool& pool) {
  Case work(kernel, model, depth, tokens, kPrefillBytes);
  std::vector<double> limit, found;
  for (int round = 0; round < kRounds; ++round) {
    limit.push_back(peak_gfs(kernel.type, pool));
    found.push_back(work.flops() / seconds([&] { work.run(pool); }) * 1e-9);
  }
  fmt::print(
      "{:18} {:14} {} threads  prefill {:3} at {:4}   {:7.1f} GF/s of {:6.0f}  {:4.0f} %  {:9.0f} tokens/s a "
      "layer\n",
      kernel.name, model.name, pool.size(), tokens, depth, best(found), best(limit),
      best(limit) > 0.0 ? 100.0 * best(found) / best(limit) : 0.0,
      best(found) * 1e9 / work.flops() * work.tokens());
}

}  // namespace
}  // namespace fettle

int main(int argc, char** argv) {
  using namespace fettle;
  const std::string only = argc > 1 ? argv[1] : "";
  const int most_threads = argc > 2 ? std::atoi(argv[2]) : ThreadPool::available_processors();
  for (const AttentionKernel& kernel : attention_kernels()) {
    if (kernel.isa > detect_isa() || (only.empty() ? kernel.isa == Isa::kScalar : only != kernel.name))
      continue;
    for (int threads = 1; threads <= most_threads; threads *= 2) {
      ThreadPool pool(threads);
      for (const ModelShape& model : kModels) {
        bench_decode(kernel, model, pool);
        bench_prefill(kernel, model, 0, 512, pool);
        bench_prefill(kernel, model, 4096, 256, pool);
      }
    }
  }
  return 0;
}
