// Rows of many kinds, and the error of a coded row, for the tests of this folder.
#pragma once

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "quant/encode.h"

namespace fettle {

struct TestRow {
  std::string name;
  std::vector<float> weights;
};

inline std::vector<float> normal_row(uint32_t seed, int64_t k, float sigma) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> row(static_cast<size_t>(k));
  for (float& w : row) w = normal(random);
  return row;
}

inline std::vector<TestRow> test_rows(int64_t k) {
  std::vector<TestRow> rows;
  for (uint32_t seed = 1; seed <= 8; ++seed) rows.push_back({"normal", normal_row(seed, k, 0.02f)});
  for (uint32_t seed = 1; seed <= 8; ++seed) {
    auto row = normal_row(seed, k, 1);
    for (float& w : row) w = w * w * w * 0.01f;
    rows.push_back({"heavy-tailed", row});
  }
  auto positive = normal_row(9, k, 1);
  for (float& w : positive) w = 3 + 0.1f * w;
  rows.push_back({"far from zero", positive});
  for (float& w : positive) w = -w;
  rows.push_back({"far below zero", positive});
  rows.push_back({"constant", std::vector<float>(static_cast<size_t>(k), 0.1f)});
  rows.push_back({"constant below zero", std::vector<float>(static_cast<size_t>(k), -0.3f)});
  rows.push_back({"zero", std::vector<float>(static_cast<size_t>(k), 0.0f)});
  rows.push_back({"tiny", normal_row(10, k, 1e-7f)});
  rows.push_back({"tinier than fp16", normal_row(11, k, 1e-12f)});
  rows.push_back({"large", normal_row(12, k, 4000.0f)});
  auto outlier = normal_row(13, k, 0.01f);
  outlier[5] = 4;
  rows.push_back({"one outlier", outlier});
  auto half_zero = normal_row(14, k, 0.05f);
  for (size_t i = 0; i < half_zero.size() / 2; ++i) half_zero[i] = i % 2 ? 0.0f : -0.0f;
  rows.push_back({"half zero", half_zero});
  return rows;
}

inline std::vector<float> test_importance(int64_t k) {
  std::vector<float> importance = normal_row(77, k, 1.5f);
  for (float& i : importance) i = std::exp(i);
  for (size_t i = 0; i < 32 && i < importance.size(); ++i)
    importance[i] = 0;  // a whole block that does not matter
  for (size_t i = 40; i < importance.size(); i += 7) importance[i] = 0;
  return importance;
}

inline std::vector<std::byte> encode(Scheme scheme, EncodeMethod method, const std::vector<float>& row,
                                     const float* importance = nullptr) {
  const auto k = static_cast<int64_t>(row.size());
  std::vector<std::byte> out(static_cast<size_t>(row_bytes(scheme, k)), std::byte{0xee});
  const Status status = encode_row(scheme, method, row.data(), importance, k, out.data());
  if (!status.ok()) out.clear();
  return out;
}

inline std::vector<float> decode(Scheme scheme, const std::vector<std::byte>& bytes, size_t k) {
  std::vector<float> out(k);
  scheme_info(scheme).decode_row(bytes.data(), static_cast<int64_t>(k), out.data());
  return out;
}

inline double weighted_error(const std::vector<float>& row, const std::vector<float>& decoded,
                             const float* importance) {
  double error = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const double r = static_cast<double>(row[i]) - static_cast<double>(decoded[i]);
    error += (importance ? static_cast<double>(importance[i]) : 1.0) * r * r;
  }
  return error;
}

}  // namespace fettle
