// Opening the small checkpoints of tests/data and reading their reference results.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "arch/arch.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "graph/interpret.h"
#include "graph/text.h"
#include "passes/pass.h"
#include "runtime/executor.h"
#include "weights/evaluate.h"

namespace fettle {

inline std::string fixture(const std::string& name) {
  return std::string(FETTLE_TEST_DATA) + "/fixtures/" + name;
}

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message();
    std::abort();
  }
  return std::move(result).value();
}

// reference.safetensors: named tensors, by value.
class Reference {
 public:
  explicit Reference(const std::string& path) : tensors_(must(read_safetensors(path))) {}
  bool has(const std::string& name) const { return find(name) != nullptr; }
  std::vector<float> floats(const std::string& name) const { return copy<float>(name); }
  std::vector<int32_t> ids(const std::string& name) const {
    const StoredTensor* t = find(name);
    if (t && t->dtype == DType::kI32) return copy<int32_t>(name);
    std::vector<int32_t> out;
    for (const int64_t id : copy<int64_t>(name)) out.push_back(static_cast<int32_t>(id));
    return out;
  }

 private:
  const StoredTensor* find(const std::string& name) const {
    for (const StoredTensor& t : tensors_)
      if (t.name == name) return &t;
    return nullptr;
  }
  template <typename T>
  std::vector<T> copy(const std::string& name) const {
    const StoredTensor* t = find(name);
    if (!t) {
      ADD_FAILURE() << "no tensor " << name;
      return {};
    }
    std::vector<T> out(t->bytes / sizeof(T));
    std::memcpy(out.data(), t->data, t->bytes);
    return out;
  }
  std::vector<StoredTensor> tensors_;
};

}  // namespace fettle
