#include "device/cpu/probe.h"

#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>

#include "base/huge_buffer.h"
#include "device/cpu/peak.h"

namespace fettle {

namespace {

using Clock = std::chrono::steady_clock;

double seconds(const std::function<void()>& f) {
  const auto start = Clock::now();
  f();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The best of the upper half: a neighbour's interference only ever slows a round down.
double typical(std::vector<double> rates) {
  std::sort(rates.begin(), rates.end());
  return rates.empty() ? 0 : rates[rates.size() * 3 / 4];
}

// The value of a field of /proc/cpuinfo's first processor.
std::string cpu_field(const std::string& name) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line) && !line.empty();)
    if (line.rfind(name, 0) == 0 && line.find(": ") != std::string::npos)
      return line.substr(line.find(": ") + 2);
  return "";
}

// Wide enough that the loads, not the additions, are what takes the time.
uint64_t sum_words(const uint64_t* p, int64_t n) {
  using Wide = uint64_t __attribute__((vector_size(64), aligned(8)));
  Wide sums[4] = {};
  for (int64_t i = 0; i + 32 <= n; i += 32) {
    sums[0] += *reinterpret_cast<const Wide*>(p + i);
    sums[1] += *reinterpret_cast<const Wide*>(p + i + 8);
    sums[2] += *reinterpret_cast<const Wide*>(p + i + 16);
    sums[3] += *reinterpret_cast<const Wide*>(p + i + 24);
  }
  const Wide all = sums[0] + sums[1] + sums[2] + sums[3];
  return all[0] + all[1] + all[2] + all[3] + all[4] + all[5] + all[6] + all[7];
}

double read_rate(ThreadPool& pool, const HugeBuffer& buffer, int threads) {
  const int64_t words = static_cast<int64_t>(buffer.size() / 8);
  std::atomic<uint64_t> sink{0};
  const double s = seconds([&] {
    pool.run([&](int worker) {
      if (worker >= threads) return;
      const Slice mine = slice_of(words, worker, threads, 4096);
      sink += sum_words(reinterpret_cast<const uint64_t*>(buffer.data()) + mine.begin, mine.end - mine.begin);
    });
  });
  return static_cast<double>(buffer.size()) / s / 1e9;
}

double peak_rate(ThreadPool& pool, int64_t (*loop)(int64_t)) {
  if (!loop) return 0;
  constexpr int64_t kRounds = 2'000'000;
  std::atomic<int64_t> operations{0};
  const double s = seconds([&] { pool.run([&](int) { operations += loop(kRounds); }); });
  return static_cast<double>(operations) / s / 1e9;
}

}  // namespace

std::string cpu_identity() { return cpu_field("model name") + cpu_field("flags") + cpu_field("Features"); }

CpuProbe probe_cpu(ThreadPool& pool, Isa isa) {
  CpuProbe probe;
  probe.model = cpu_field("model name");
  struct sysinfo info {};
  if (sysinfo(&info) == 0) probe.memory_bytes = static_cast<int64_t>(info.totalram) * info.mem_unit;
  probe.l2_bytes = std::max(0L, sysconf(_SC_LEVEL2_CACHE_SIZE));
  probe.l3_bytes = std::max(0L, sysconf(_SC_LEVEL3_CACHE_SIZE));

  const uint64_t bytes =
      std::min<uint64_t>(uint64_t{512} << 20, static_cast<uint64_t>(probe.memory_bytes) / 8);
  auto buffer = HugeBuffer::allocate(bytes);
  const PeakLoops loops = peak_loops(isa);
  std::vector<double> all, one, int8, bf16, f32;
  if (buffer.ok()) std::memset(buffer->data(), 1, bytes);
  for (int round = 0; round < 5; ++round) {
    if (buffer.ok()) {
      all.push_back(read_rate(pool, *buffer, pool.size()));
      one.push_back(read_rate(pool, *buffer, 1));
    }
    int8.push_back(peak_rate(pool, loops.int8));
    bf16.push_back(peak_rate(pool, loops.bf16));
    f32.push_back(peak_rate(pool, loops.f32));
  }
  probe.bandwidth_gbs = typical(all);
  probe.bandwidth_1_gbs = typical(one);
  probe.int8_gops = typical(int8);
  probe.bf16_gflops = typical(bf16);
  probe.f32_gflops = typical(f32);
  return probe;
}

KernelRate measure_kernel(const LinearKernel& kernel, ThreadPool& pool, int64_t n, int64_t k) {
  KernelRate rate{&kernel};
  constexpr int64_t kRows = 64;
  auto weight = HugeBuffer::allocate(static_cast<uint64_t>(packed_bytes(kernel.scheme, n, k)));
  auto x = HugeBuffer::allocate(static_cast<uint64_t>(activation_bytes(kernel.activation, kRows, k)));
  auto y = HugeBuffer::allocate(static_cast<uint64_t>(kRows * n) * sizeof(float));
  if (!weight.ok() || !x.ok() || !y.ok()) return rate;
  std::memset(weight->data(), 0, weight->size());
  const auto once = [&](int64_t t) {
    return seconds([&] {
      pool.run([&](int worker) {
        const Slice tiles = slice_of(tile_count(n), worker, pool.size());
        kernel.run({.weight = weight->data(),
                    .n = n,
                    .k = k,
                    .x = x->data(),
                    .t = t,
                    .y = reinterpret_cast<float*>(y->data()),
                    .ldy = n,
                    .bias = nullptr,
                    .accumulate = false,
                    .tile_begin = tiles.begin,
                    .tile_end = tiles.end});
      });
    });
  };
  std::vector<double> read, many;
  for (int round = 0; round < 5; ++round) {
    read.push_back(static_cast<double>(weight->size()) / once(1) / 1e9);
    many.push_back(2.0 * static_cast<double>(n * k * kRows) / once(kRows) / 1e9);
  }
  rate.read_gbs = typical(read);
  rate.gops = typical(many);
  return rate;
}

}  // namespace fettle
