// The metadata section of a GGUF file: a bounded cursor over the bytes, and typed values as JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/json.h"
#include "base/result.h"
#include "checkpoint/gguf_tokenizer.h"

namespace fettle {

class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> bytes, const std::string& what) : bytes_(bytes), what_(what) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }
  const std::string& what() const { return what_; }

  template <typename T>
  Result<T> read(std::string_view field) {
    static_assert(std::is_arithmetic_v<T>);
    TRY(const std::byte* p, take(sizeof(T), field));
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  Result<std::string_view> string(std::string_view field);
  Result<const std::byte*> take(uint64_t bytes, std::string_view field);

 private:
  std::span<const std::byte> bytes_;
  const std::string& what_;
  uint64_t position_ = 0;
};

// Reads `count` key-value pairs into a flat object. The arrays
// tokenizer.ggml.{tokens,token_type,scores,merges} stay out of it; tokens, types and merges go to `tokenizer`
// when there is one.
Result<Json> read_gguf_metadata(GgufCursor& cursor, uint64_t count, GgufTokenizer* tokenizer);

}  // namespace fettle
