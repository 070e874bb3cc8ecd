#include "checkpoint/safetensors.h"

#include <vector>

#include "base/check.h"
#include "base/file.h"
#include "checkpoint/block_scales.h"
#include "checkpoint/tensor_index.h"

namespace {

using namespace fettle;

// Codes and scales that were joined can be read to their last row.
void read_joined(std::span<const std::byte> file, const std::vector<SafetensorsEntry>& entries) {
  static const auto somewhere = MappedFile::open("/proc/self/exe").value();
  static const Json config = {{"quantization_config", {{"weight_block_size", {128, 128}}}}};
  std::vector<StoredTensor> tensors;
  for (const SafetensorsEntry& e : entries)
    tensors.push_back({.name = e.name,
                       .shape = e.shape,
                       .dtype = e.dtype,
                       .scheme = {},
                       .data = file.data() + e.offset,
                       .bytes = e.bytes,
                       .file = somewhere});
  const auto index = index_tensors(tensors, "input");
  if (!index.ok() || !join_block_scales(config, "config", *index, &tensors).ok()) return;
  for (const StoredTensor& tensor : tensors) {
    if (!tensor.scales) continue;
    const Shape& shape = tensor.shape;
    const MatrixView view{.scheme = *tensor.scheme,
                          .rows = *element_count({shape.begin(), shape.end() - 1}),
                          .cols = shape.back(),
                          .data = tensor.data,
                          .owner = {},
                          .scales = tensor.scales};
    if (shape.size() == 2) view.decode();
  }
}

}  // namespace

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
  read_joined(file, *entries);
  return 0;
}
