#include "checkpoint/gguf.h"

#include <vector>

#include "base/check.h"
#include "tensor/matrix.h"

// Whatever is accepted must lie inside the file and decode; a tokenizer that is accepted must be writable or
// refused.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fettle;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  GgufTokenizer tokenizer;
  const auto file = parse_gguf(bytes, "input", &tokenizer);
  const auto without = parse_gguf(bytes, "input");
  CHECK(without.ok() || !file.ok(), "passing over the tokenizer must not be stricter than reading it");
  if (!file.ok()) return 0;
  (void)tokenizer_json_from_gguf(tokenizer);
  (void)tokenizer_config_from_gguf(tokenizer);
  uint64_t end = 0;
  for (const GgufTensor& tensor : file->tensors) {
    CHECK(tensor.offset >= end && tensor.offset <= size && tensor.bytes <= size - tensor.offset, "{}",
          tensor.name);
    end = tensor.offset + tensor.bytes;
    const int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
    const int64_t rows = element_count(tensor.shape).value() / cols;
    if (!tensor.scheme) continue;
    const MatrixView view{.scheme = *tensor.scheme,
                          .rows = rows,
                          .cols = cols,
                          .data = bytes.data() + tensor.offset,
                          .owner = {}};
    CHECK(static_cast<uint64_t>(view.bytes()) == tensor.bytes, "{}", tensor.name);
    view.decode();
  }
  return 0;
}
