#include "kernels/linear/scratch.h"

#include <memory>
#include <new>

namespace fettle::linear {
namespace {

constexpr std::align_val_t kAlignment{64};
struct Free {
  void operator()(std::byte* p) const { ::operator delete[](p, kAlignment); }
};

}  // namespace

std::byte* thread_scratch(int64_t bytes) {
  thread_local std::unique_ptr<std::byte[], Free> block;
  thread_local int64_t size = 0;
  if (bytes > size) {
    block.reset();
    block.reset(static_cast<std::byte*>(::operator new[](static_cast<size_t>(bytes), kAlignment)));
    size = bytes;
  }
  return block.get();
}

}  // namespace fettle::linear
