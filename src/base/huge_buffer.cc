#include "base/huge_buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "base/file.h"
#include "base/progress.h"

namespace fettle {

namespace {
constexpr uint64_t kHugePage = uint64_t{2} << 20;
}

Result<HugeBuffer> HugeBuffer::allocate(uint64_t bytes) {
  if (bytes == 0) return HugeBuffer();
  // Small buffers need no huge page; large ones are mapped with room to align.
  const uint64_t slack = bytes >= kHugePage ? kHugePage : 0;
  const uint64_t mapped = (bytes + 4095) / 4096 * 4096 + slack;
  void* mapping =
      ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    return make_error(Code::kResource,
                      "cannot allocate {}: {}; close other programs or use a smaller model or context",
                      format_bytes(bytes), errno_error(errno, "map", "memory").message());
  const uintptr_t start = reinterpret_cast<uintptr_t>(mapping);
  const uintptr_t aligned = slack ? (start + kHugePage - 1) / kHugePage * kHugePage : start;
  auto* data = reinterpret_cast<std::byte*>(aligned);
  if (slack) ::madvise(data, bytes, MADV_HUGEPAGE);
  return HugeBuffer(data, bytes, mapping, mapped);
}

HugeBuffer::~HugeBuffer() {
  if (mapping_) ::munmap(mapping_, mapped_);
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept { *this = std::move(other); }

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace fettle
