// The reference tables of tests/data/gguf_blocks.safetensors, by name.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"

namespace fettle {

inline const std::vector<StoredTensor>& reference_tables() {
  static const std::vector<StoredTensor> tables = [] {
    auto read = read_safetensors(FETTLE_TEST_DATA "/gguf_blocks.safetensors");
    EXPECT_TRUE(read.ok()) << (read.ok() ? "" : read.error().message());
    return read.ok() ? std::move(read).value() : std::vector<StoredTensor>();
  }();
  return tables;
}

template <typename T>
std::vector<T> reference_table(const std::string& name) {
  for (const StoredTensor& tensor : reference_tables()) {
    if (tensor.name != name) continue;
    EXPECT_EQ(tensor.bytes, static_cast<uint64_t>(tensor.elements()) * sizeof(T)) << name;
    std::vector<T> values(tensor.bytes / sizeof(T));
    std::memcpy(values.data(), tensor.data, values.size() * sizeof(T));
    return values;
  }
  ADD_FAILURE() << "no table " << name;
  return {};
}

}  // namespace fettle
