// Linear kernels against this machine's limits, measured in the same run: GB/s of weights for one token,
// Gop/s for more.
//   linear_bench [--threads N] [--n N] [--k K] [--only TEXT] [--isa NAME] [--ms MILLISECONDS]
// With --threads 1, times are processor time, so a busy machine disturbs them less.
// Weights for one token are 256 MiB, so that they come from memory; for more tokens they are one matrix [n,
// k].
#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/linear/linear.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fettle {
namespace {

struct Options {
  int threads = 0;
  int64_t n = 1536, k = 1536;
  std::string only;
  Isa isa = detect_isa();
  double seconds = 0.06;
};

// Processor time leaves out what other programs took; it makes sense for one thread only.
double now_s(bool processor_time = false) {
  timespec now;
  clock_gettime(processor_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The median time of f() over the given span. A sample is a batch of at least 2 ms: the clock of processor
// time can run several microseconds short, so the least of many short samples would flatter short calls.
template <typename F>
double median_s(const Options& options, double span, F f) {
  constexpr double kSample = 2e-3;
  const bool processor_time = options.threads == 1;
  const auto sample = [&](int64_t calls) {
    const double start = now_s(processor_time);
    for (int64_t i = 0; i < calls; ++i) f();
    return (now_s(processor_time) - start) / static_cast<double>(calls);
  };
  sample(1);
  int64_t calls = 1;
  while (sample(calls) * static_cast<double>(calls) < kSample && calls < (1 << 20)) calls *= 2;
  std::vector<double> times;
  for (const double begin = now_s(); times.size() < 5 || now_s() - begin < span;)
    times.push_back(sample(calls));
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

// Memory in huge pages where the system gives them, as the executor holds weights.
class Buffer {
 public:
  explicit Buffer(int64_t bytes) : size_(static_cast<size_t>(bytes + (4 << 20))) {
    base_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) std::abort();
    madvise(base_, size_, MADV_HUGEPAGE);
    std::memset(base_, 0, size_);
  }
  ~Buffer() { munmap(base_, size_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::byte* data() const {
    const uintptr_t mask = (uintptr_t{2} << 20) - 1;
    return reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(base_) + mask) & ~mask);
  }

 private:
  size_t size_;
  void* base_;
};

// Bytes that are ordinary numbers however they are read: no f16, bf16 or fp32 of them is subnormal, infinite
// or NaN.
void fill_weights(std::byte* p, int64_t bytes) {
  uint32_t state = 12345;
  for (int64_t i = 0; i < bytes; ++i) {
    state = state * 1664525u + 1013904223u;
    p[i] = static_cast<std::byte>(0x20 + (state >> 24) % 28);
  }
}

#if defined(__x86_64__)
#define FETTLE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma"
#include "kernels/target_begin.h"

constexpr int64_t kProbeSteps = 1 << 20;

constexpr int kChains = 12;

// Independent chains of one instruction, from registers: nothing but the multipliers can limit them.
__attribute__((noinline)) void probe_vpdpbusd() {
  __m512i chains[kChains] = {};
  const __m512i w = _mm512_set1_epi32(0x01010101);
  for (int64_t i = 0; i < kProbeSteps; ++i)
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(chains[c]) : "v"(w));
}

__attribute__((noinline)) void probe_vdpbf16ps() {
  __m512 chains[kChains] = {};
  const __m512i w = _mm512_set1_epi32(0x3f803f80);
  for (int64_t i = 0; i < kProbeSteps; ++i)
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(chains[c]) : "v"(w));
}

__attribute__((noinline)) void read_all(const std::byte* p, int64_t bytes) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (int64_t i = 0; i < bytes; i += 256) {
    a = _mm512_or_si512(a, _mm512_load_si512(p + i));
    b = _mm512_or_si512(b, _mm512_load_si512(p + i + 64));
    c = _mm512_or_si512(c, _mm512_load_si512(p + i + 128));
    d = _mm512_or_si512(d, _mm512_load_si512(p + i + 192));
  }
  a = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
  __asm__ volatile("" ::"v"(a));
}

#include "kernels/target_end.h"
#else
constexpr int64_t kProbeSteps = 1;
constexpr int kChains = 1;
void probe_vpdpbusd() {}
void probe_vdpbf16ps() {}
void read_all(const std::byte*, int64_t) {}
#endif

struct Limits {
  double int8_gops = 0, bf16_gflops = 0, read_gbs = 0;
};

constexpr int64_t kStream = int64_t{256} << 20;

Limits probe(const Options& options, ThreadPool& pool, const std::byte* stream) {
  const double chains = 1.0 * kChains * static_cast<double>(kProbeSteps) * pool.size() * 1e-9;
  Limits limits;
  if (options.isa >= Isa::kAvx512Vnni)
    limits.int8_gops =
        128 * chains / median_s(options, options.seconds, [&] { pool.run([](int) { probe_vpdpbusd(); }); });
  if (options.isa >= Isa::kAvx512Bf16)
    limits.bf16_gflops =
        64 * chains / median_s(options, options.seconds, [&] { pool.run([](int) { probe_vdpbf16ps(); }); });
  if (options.isa >= Isa::kAvx512)
    limits.read_gbs = 1e-9 * kStream / median_s(options, options.seconds * 3, [&] {
                        pool.run([&](int worker) {
                          const Slice s = slice_of(kStream, worker, pool.size(), 4096);
                          read_all(stream + s.begin, s.end - s.begin);
                        });
                      });
  return limits;
}

double run_s(const Options& options, ThreadPool& pool, const LinearKernel& kernel, LinearArgs args) {
  return median_s(options, options.seconds, [&] {
    pool.run([&](int worker) {
      LinearArgs mine = args;
      const Slice s = slice_of(tile_count(args.n), worker, pool.size(), 4);
      mine.tile_begin = s.begin;
      mine.tile_end = s.end;
      kernel.run(mine);
    });
  });
}

void bench(const Options& options, ThreadPool& pool, const LinearKernel& kernel, const std::byte* stream) {
  constexpr int64_t kTokens[] = {2, 4, 8, 16, 32, 64, 256, 512};
  const int64_t k = options.k, tile_bytes = packed_tile_bytes(kernel.scheme, k);
  const int64_t long_n = kStream / tile_bytes * kTileRows;
  std::vector<float> row(static_cast<size_t>(k)),
      y(static_cast<size_t>(std::max(4 * long_n, options.n * 512)));
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(i * 7919 % 1000) - 499.5f;
  Buffer x(activation_bytes(kernel.activation, 512, k));
  const auto fill = [&](int64_t t) {
    const QuantiseRowFn quantise = find_quantise_row(kernel.activation, options.isa);
    for (int64_t r = 0; r < t; ++r) quantise(row.data(), k, x.data(), t, r);
  };
  LinearArgs args{stream, long_n, k, x.data(), 1, y.data(), long_n, nullptr, false, 0, 0};

  fill(1);
  const double one = run_s(options, pool, kernel, args);
  fill(4);
  args.t = 4;
  const double four = run_s(options, pool, kernel, args);
  fmt::print("{:<28} {:7.1f} GB/s  t4/t1 {:4.2f} ", kernel.name,
             1e-9 * static_cast<double>(tile_count(long_n) * tile_bytes) / one, four / one);
  args.n = args.ldy = options.n;
  for (int64_t t : kTokens) {
    fill(t);
    args.t = t;
    const double ops = 2e-9 * static_cast<double>(t * options.n * k);
    fmt::print(" {:6.0f}", ops / run_s(options, pool, kernel, args));
    std::fflush(stdout);
  }
  const Limits limits = probe(options, pool, stream);
  fmt::print("  | {:.1f} GB/s, {:.0f}, {:.0f}\n", limits.read_gbs, limits.int8_gops, limits.bf16_gflops);
}

Result<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--threads") options.threads = std::stoi(value);
    if (name == "--n") options.n = std::stoll(value);
    if (name == "--k") options.k = std::stoll(value);
    if (name == "--only") options.only = value;
    if (name == "--ms") options.seconds = std::stod(value) * 1e-3;
    if (name == "--isa") {
      TRY(options.isa, parse_isa(value));
    }
  }
  return options;
}

int run(const Options& options) {
  ThreadPool pool(options.threads);
  Buffer stream(kStream);
  fill_weights(stream.data(), kStream);
  fmt::print("threads {}, n {}, k {}, {}\n", pool.size(), options.n, options.k, isa_name(options.isa));
  fmt::print(
      "{:<28} {:>12}  {:>10}   t=2 4 8 16 32 64 256 512: Gop/s   | limits: read, vpdpbusd, vdpbf16ps\n",
      "kernel", "t=1", "");
  for (const LinearKernel& kernel : linear_kernels()) {
    if (kernel.isa > options.isa || kernel.isa == Isa::kScalar || !row_fits(kernel.scheme, options.k))
      continue;
    if (kernel.name.find(options.only) == std::string_view::npos) continue;
    bench(options, pool, kernel, stream.data());
  }
  return 0;
}

}  // namespace
}  // namespace fettle

int main(int argc, char** argv) {
  auto options = fettle::parse(argc, argv);
  if (!options) {
    fmt::print(stderr, "{}\n", options.error().message());
    return 2;
  }
  return fettle::run(*options);
}
