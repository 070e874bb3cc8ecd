#include "quality/text_checks.h"

#include <gtest/gtest.h>

namespace fettle {
namespace {

TEST(TextChecks, RunawayRepetitionFails) {
  std::vector<int32_t> varied, stuck;
  for (int32_t i = 0; i < 64; ++i) {
    varied.push_back(i * 7 % 61);
    stuck.push_back(i % 3);
  }
  EXPECT_TRUE(check_repetition({varied}, {varied}).passed);
  EXPECT_TRUE(check_repetition({stuck}, {stuck}).passed);
  EXPECT_TRUE(check_repetition({stuck}, {varied}).passed);
  const Check check = check_repetition({varied}, {stuck});
  EXPECT_FALSE(check.passed);
  EXPECT_NE(check.detail.find("95 % of 4-grams repeat in the adapted"), std::string::npos) << check.detail;
}

TEST(TextChecks, AnotherScriptFails) {
  const std::string english = "The quick brown fox jumps over the lazy dog. ",
                    chinese = "敏捷的棕色狐狸跳过了懒狗。";
  EXPECT_TRUE(check_language_mix(english, english + "naïve façade Übung").passed);
  EXPECT_TRUE(check_language_mix(chinese + english, chinese + english).passed);
  EXPECT_TRUE(check_language_mix(english, "1234 + 5 = 6").passed);
  const Check check = check_language_mix(english, english + chinese);
  EXPECT_FALSE(check.passed);
  EXPECT_NE(check.detail.find("letters are Han"), std::string::npos) << check.detail;
  EXPECT_FALSE(check_language_mix(english, "Съешь ещё этих мягких французских булок").passed);
  // Bytes that are no characters are no letters, and are read to the end without going past it.
  EXPECT_TRUE(check_language_mix(english, english + "\xff\xc3\xe4\xbd\xf0\x9f").passed);
}

}  // namespace
}  // namespace fettle
