// Files made by the byte, right or wrong, and a directory to put them in.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"

namespace fettle {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = testing::TempDir() + "/fettle-checkpoint-XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TemporaryDirectory() { (void)remove_tree(path_); }
  const std::string& path() const { return path_; }
  std::string write(const std::string& name, std::string_view bytes) const {
    const std::string path = join_path(path_, name);
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

 private:
  std::string path_;
};

template <typename T>
std::string raw(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline std::string safetensors_file(const std::string& header, const std::string& data) {
  return raw<uint64_t>(header.size()) + header + data;
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
  GgufBuilder& info(std::string_view name, std::initializer_list<uint64_t> dims, uint32_t type,
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

inline std::string fixture(const std::string& name) {
  return std::string(FETTLE_TEST_DATA "/fixtures/") + name;
}

// The result is an error of the code whose message holds every one of the words.
template <typename T>
void expect_error(const Result<T>& result, Code code, std::initializer_list<std::string_view> words) {
  ASSERT_FALSE(result.ok()) << "expected an error with '" << (words.size() ? *words.begin() : "") << "'";
  EXPECT_EQ(static_cast<int>(result.error().code()), static_cast<int>(code)) << result.error().message();
  for (const std::string_view word : words)
    EXPECT_NE(result.error().message().find(word), std::string::npos)
        << "'" << word << "' in: " << result.error().message();
}

}  // namespace fettle
