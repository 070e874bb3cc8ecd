#include "checkpoint/safetensors.h"

#include "base/check.h"

// Whatever is accepted must tile the file: each entry lies behind the one before it, inside, and has the size
// of its shape.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  const auto entries = fettle::parse_safetensors(file, "input");
  if (!entries.ok()) return 0;
  uint64_t end = 0;
  for (const fettle::SafetensorsEntry& entry : *entries) {
    CHECK(entry.offset >= end && entry.offset <= size && entry.bytes <= size - entry.offset, "{}",
          entry.name);
    const auto count = fettle::element_count(entry.shape);
    CHECK(count && static_cast<uint64_t>(*count) * static_cast<uint64_t>(fettle::dtype_bits(entry.dtype)) ==
                       entry.bytes * 8);
    end = entry.offset + entry.bytes;
  }
  CHECK(entries->empty() || end == size, "{} of {}", end, size);
  return 0;
}
