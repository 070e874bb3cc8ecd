#include "kernels/index/kernels.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>

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

// Entries are counted by the first bits of their ranks; only those of the class in which the last place falls
// are compared with each other. 32768 entries take a quarter of the time of comparing all.
void choose_entries(const float* scores, int64_t count, int64_t top, int32_t* out, ChoiceRoom& room) {
  if (count <= top) {
    std::iota(out, out + count, 0);
    std::fill(out + count, out + top, -1);
    return;
  }
  constexpr int kShift = 21, kClasses = 1 << (32 - kShift);
  int64_t members[kClasses] = {};
  room.ranks.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t rank = rank_of(scores[i]);
    room.ranks[static_cast<size_t>(i)] = rank;
    ++members[rank >> kShift];
  }
  uint32_t last = kClasses - 1;  // the class of the last place
  int64_t places = top;          // in it
  while (members[last] < places) places -= members[last--];

  // Equal scores order by the entry's number, so that all keys differ.
  const auto key = [&](int64_t i) {
    return uint64_t{room.ranks[static_cast<size_t>(i)]} << 32 | (0xffffffffU - static_cast<uint32_t>(i));
  };
  room.close.clear();
  for (int64_t i = 0; i < count; ++i)
    if (room.ranks[static_cast<size_t>(i)] >> kShift == last) room.close.push_back(key(i));
  const auto place = room.close.begin() + (places - 1);
  std::nth_element(room.close.begin(), place, room.close.end(), std::greater<>());
  const uint64_t least = *place;
  for (int64_t i = 0, n = 0; n < top; ++i) {
    out[n] = static_cast<int32_t>(i);
    n += key(i) >= least;
  }
}

}  // namespace fettle
