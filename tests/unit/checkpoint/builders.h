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
#include "checkpoint/gguf_builder.h"

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

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline std::string safetensors_file(const std::string& header, const std::string& data) {
  return raw<uint64_t>(header.size()) + header + data;
}

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
