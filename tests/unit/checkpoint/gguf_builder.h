// GGUF files made by the byte, right or wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace fettle {

template <typename T>
std::string raw(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

// Pieces of a GGUF file, put together by file().
struct GgufBuilder {
  uint32_t version = 3;
  uint64_t alignment = 32;
  std::string pairs, infos, data;
  uint64_t pair_count = 0, tensor_count = 0;

  static std::string text(std::string_view s) { return raw<uint64_t>(s.size()) + std::string(s); }
  GgufBuilder& pair(std::string_view key, uint32_t type, const std::string& value) {
    pairs += text(key) + raw(type) + value;
    ++pair_count;
    return *this;
  }
  GgufBuilder& string(std::string_view key, std::string_view value) { return pair(key, 8, text(value)); }
  GgufBuilder& u32(std::string_view key, uint32_t value) { return pair(key, 4, raw(value)); }
  // dims fastest first, as in the file; offset counts from the start of the data.
  GgufBuilder& info(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                    uint64_t offset) {
    infos += text(name) + raw(static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) infos += raw(d);
    infos += raw(type) + raw(offset);
    ++tensor_count;
    return *this;
  }
  std::string head() const {
    return "GGUF" + raw(version) + raw(tensor_count) + raw(pair_count) + pairs + infos;
  }
  std::string file() const {
    std::string out = head();
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

}  // namespace fettle
