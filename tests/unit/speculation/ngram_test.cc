#include <random>

#include "speculation/testing.h"

namespace fettle {
namespace {

// By trying every place, latest first.
std::vector<int32_t> by_hand(const std::vector<int32_t>& tokens, size_t most) {
  const size_t n = tokens.size();
  size_t best_length = 1, best = 0;
  for (size_t end = n - 1; end-- > 0;) {
    size_t length = 0;
    while (length <= end && length < 16 && tokens[end - length] == tokens[n - 1 - length]) ++length;
    if (length > best_length) best_length = length, best = end;
  }
  std::vector<int32_t> out;
  if (best_length < 2) return out;
  std::vector<int32_t> extended = tokens;
  for (size_t i = 0; i < most; ++i) {
    out.push_back(extended[best + 1 + i]);
    extended.push_back(out.back());
  }
  return out;
}

TEST(Ngrams, TheLongestLatestMatchIsFound) {
  std::mt19937 random(5);
  for (const int letters : {2, 3, 6, 40}) {
    std::vector<int32_t> tokens;
    NgramIndex index;
    size_t found = 0;
    for (int i = 0; i < 120; ++i) {
      tokens.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(letters)));
      index.push(tokens.back());
      // A walk is bounded: compare where it surely sees all places.
      if (letters == 2 && i > 40) break;
      const auto expected = tokens.size() < 2 ? std::vector<int32_t>{} : by_hand(tokens, 6);
      EXPECT_EQ(index.propose(6), expected) << letters << " letters, " << i;
      found += !expected.empty();
    }
    EXPECT_GT(found, letters == 40 ? 0U : 10U);
  }
}

TEST(Ngrams, WhatRepeatsGoesOn) {
  NgramIndex index;
  EXPECT_TRUE(index.propose(3).empty());
  for (const int32_t token : {1, 2, 3, 1, 2, 3, 1, 2}) index.push(token);
  EXPECT_EQ(index.propose(5), (std::vector<int32_t>{3, 1, 2, 3, 1}));
  EXPECT_TRUE(index.propose(0).empty());
  NgramIndex same;
  for (int i = 0; i < 100000; ++i) same.push(9);  // quick though every place matches
  EXPECT_EQ(same.propose(2), (std::vector<int32_t>{9, 9}));
}

}  // namespace
}  // namespace fettle
