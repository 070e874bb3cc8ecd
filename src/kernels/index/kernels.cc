#include "kernels/index/kernels.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace fettle {

namespace {

constexpr IndexKernel kKernels[] = {
#define FETTLE_INDEX(name, type, isa, function) {name, type, isa, write_kv, function},
#include "kernels/index/kernels.inc"
#undef FETTLE_INDEX
};

// Orders as the numbers do; 0 is below them all.
uint32_t rank_of(float score) {
  if (score != score) return 0;
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 is 0
  return bits & 0x80000000U ? ~bits : bits | 0x80000000U;
}

}  // namespace

std::span<const IndexKernel> index_kernels() { return kKernels; }

const IndexKernel* find_index_kernel(KvType type, Isa isa) {
  for (const IndexKernel& kernel : kKernels)
    if (kernel.type == type && kernel.isa <= isa) return &kernel;
  return nullptr;
}

int64_t index_scratch_floats(const KvShape& shape, int64_t heads, int64_t tokens) {
  return tokens * heads * index_q_floats(shape.k_dim) + kLanes;  // from a cache line on
}

void choose_entries(const float* scores, int64_t count, int64_t top, int32_t* out,
                    std::vector<uint64_t>& room) {
  const int64_t kept = std::min(top, count);
  if (count <= top) {
    for (int64_t i = 0; i < kept; ++i) out[i] = static_cast<int32_t>(i);
  } else {
    // Equal scores order by the entry's number, so that all keys differ.
    room.resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i)
      room[static_cast<size_t>(i)] =
          uint64_t{rank_of(scores[i])} << 32 | (0xffffffffU - static_cast<uint32_t>(i));
    std::nth_element(room.begin(), room.begin() + (top - 1), room.end(), std::greater<>());
    for (int64_t i = 0; i < top; ++i)
      out[i] = static_cast<int32_t>(0xffffffffU - static_cast<uint32_t>(room[static_cast<size_t>(i)]));
    std::sort(out, out + top);
  }
  std::fill(out + kept, out + top, -1);
}

}  // namespace fettle
