// Opening the small checkpoints of tests/data and reading their reference results.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <string>
#include <vector>

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

inline double relative_l2(std::span<const float> found, std::span<const float> expected) {
  EXPECT_EQ(found.size(), expected.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    error += (double(found[i]) - expected[i]) * (double(found[i]) - expected[i]);
    norm += double(expected[i]) * expected[i];
  }
  return std::sqrt(error / norm);
}

// The median over rows of their relative L2 distances: of models of random weights, where a route that flips
// throws a few rows far off.
inline double median_row_error(std::span<const float> found, std::span<const float> expected, int64_t cols) {
  EXPECT_EQ(found.size(), expected.size());
  std::vector<double> errors;
  for (size_t row = 0; row + static_cast<size_t>(cols) <= expected.size(); row += static_cast<size_t>(cols)) {
    double error = 0, norm = 0;
    for (size_t i = row; i < row + static_cast<size_t>(cols); ++i) {
      error += std::pow(double(found[i]) - expected[i], 2);
      norm += std::pow(double(expected[i]), 2);
    }
    errors.push_back(std::sqrt(error / norm));
  }
  std::nth_element(errors.begin(), errors.begin() + static_cast<int64_t>(errors.size() / 2), errors.end());
  return errors[errors.size() / 2];
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
