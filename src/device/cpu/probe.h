// What this processor can do, measured with loops of our own: reading memory, int8, bf16 and fp32
// multiply-add, and each linear kernel at one row and at many. Medians over interleaved rounds; a shared
// machine is noisy, so figures are good to about 15 %.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/linear/linear.h"

namespace fettle {

struct CpuProbe {
  std::string model;                                      // "AMD EPYC", from the system
  double bandwidth_gbs = 0, bandwidth_1_gbs = 0;          // all threads, one thread
  double int8_gops = 0, bf16_gflops = 0, f32_gflops = 0;  // all threads; 0 where the instruction set lacks it
  int64_t l2_bytes = 0, l3_bytes = 0, memory_bytes = 0;
};
// Model and feature flags: what makes a measurement of one processor valid for another.
std::string cpu_identity();

CpuProbe probe_cpu(ThreadPool& pool, Isa isa);

struct KernelRate {
  const LinearKernel* kernel = nullptr;
  double read_gbs = 0;  // weight bytes at one row, all threads
  double gops = 0;      // two operations a multiply-add, at 64 rows, all threads
};
// On a matrix [n, k] of zeros with valid scales; n a multiple of 16.
KernelRate measure_kernel(const LinearKernel& kernel, ThreadPool& pool, int64_t n, int64_t k);

}  // namespace fettle
