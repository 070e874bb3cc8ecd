// One GGUF file (version 2 or 3): metadata, then descriptions of tensors, then their bytes. Nothing is taken
// before it is checked against the file's size, so a described tensor's range may be read without further
// checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_tokenizer.h"
#include "tensor/dtype.h"
#include "tensor/scheme.h"

namespace fettle {

struct GgufTensor {
  std::string name;
  Shape shape;                   // row-major: the file's order reversed
  std::optional<Scheme> scheme;  // of weights, ...
  std::optional<DType> dtype;    // ... or the type of whole numbers
  uint64_t offset = 0;           // from the start of the file
  uint64_t bytes = 0;
};

struct GgufFile {
  Json metadata;  // one flat object, without the tokenizer's big arrays
  std::vector<GgufTensor> tensors;
};

// `what` names the file in errors. With `tokenizer`, its fields are filled too; the big arrays are passed
// over otherwise.
Result<GgufFile> parse_gguf(std::span<const std::byte> file, const std::string& what,
                            GgufTokenizer* tokenizer = nullptr);

// Opens the model that `path` is a part of, or the whole of.
Result<Checkpoint> open_gguf(const std::string& path);

// The tokenizer's and generation's files, written from the metadata of the model's first part.
Result<std::map<std::string, std::string>> gguf_text_files(const std::string& first_part);

}  // namespace fettle
