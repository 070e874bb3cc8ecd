#include "quality/text_checks.h"

#include <fmt/format.h>

#include <map>
#include <set>

namespace fettle {

namespace {

// Share of 4-grams of tokens that occurred before in the same text.
double repeated_share(const std::vector<std::vector<int32_t>>& texts) {
  constexpr size_t kGram = 4;
  int64_t repeated = 0, total = 0;
  for (const std::vector<int32_t>& text : texts) {
    std::set<std::vector<int32_t>> seen;
    for (size_t i = 0; i + kGram <= text.size(); ++i, ++total) {
      const auto begin = text.begin() + static_cast<int64_t>(i);
      repeated += !seen.insert(std::vector<int32_t>(begin, begin + kGram)).second;
    }
  }
  return total > 0 ? static_cast<double>(repeated) / static_cast<double>(total) : 0;
}

struct Script {
  char32_t first, last;
  std::string_view name;
};
// Blocks of letters (Unicode Blocks.txt), by the script that people would call them.
constexpr Script kScripts[] = {
    {U'A', U'Z', "Latin"},      {U'a', U'z', "Latin"},        {0x00C0, 0x024F, "Latin"},
    {0x0370, 0x03FF, "Greek"},  {0x0400, 0x052F, "Cyrillic"}, {0x0530, 0x058F, "Armenian"},
    {0x0590, 0x05FF, "Hebrew"}, {0x0600, 0x077F, "Arabic"},   {0x0900, 0x0DFF, "Indic"},
    {0x0E00, 0x0E7F, "Thai"},   {0x10A0, 0x10FF, "Georgian"}, {0x1100, 0x11FF, "Hangul"},
    {0x1E00, 0x1EFF, "Latin"},  {0x1F00, 0x1FFF, "Greek"},    {0x3040, 0x30FF, "Kana"},
    {0x3400, 0x4DBF, "Han"},    {0x4E00, 0x9FFF, "Han"},      {0xAC00, 0xD7AF, "Hangul"},
    {0xF900, 0xFAFF, "Han"},    {0x20000, 0x2FA1F, "Han"},
};

// The next character; a wrong byte counts as one that is no letter.
char32_t next_character(std::string_view text, size_t* at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte((*at)++);
  const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
  char32_t c = more == 0 ? lead : lead & (0x3F >> more);
  for (int i = 0; i < more && *at < text.size() && (byte(*at) & 0xC0) == 0x80; ++i)
    c = c << 6 | (byte((*at)++) & 0x3F);
  return lead >= 0x80 && more == 0 ? 0 : c;
}

// Share of each script among the letters.
std::map<std::string_view, double> script_shares(std::string_view text) {
  std::map<std::string_view, double> shares;
  double letters = 0;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_character(text, &at);
    for (const Script& script : kScripts)
      if (c >= script.first && c <= script.last) ++shares[script.name], ++letters;
  }
  for (auto& [name, share] : shares) share /= letters;
  return shares;
}

}  // namespace

Check check_repetition(const std::vector<std::vector<int32_t>>& source,
                       const std::vector<std::vector<int32_t>>& adapted) {
  constexpr double kMuchMore = 0.2;
  const double before = repeated_share(source), after = repeated_share(adapted);
  return {
      after <= before + kMuchMore,
      fmt::format("{:.0f} % of 4-grams repeat in the adapted model's greedy text, {:.0f} % in the source's",
                  after * 100, before * 100)};
}

Check check_language_mix(std::string_view source, std::string_view adapted) {
  constexpr double kMuchMore = 0.1;
  auto before = script_shares(source);
  std::string_view worst;
  double most = -1;
  for (const auto& [script, share] : script_shares(adapted))
    if (share - before[script] > most) {
      most = share - before[script];
      worst = script;
    }
  if (worst.empty()) return {true, "the adapted model's greedy text holds no letters"};
  return {
      most <= kMuchMore,
      fmt::format("{:.0f} % of letters are {} in the adapted model's greedy text, {:.0f} % in the source's",
                  (before[worst] + most) * 100, worst, before[worst] * 100)};
}

}  // namespace fettle
