#include "text/utf8.h"

#include <cstdint>

namespace fettle {
namespace {

enum class Reading { kWhole, kStart, kWrong };
struct Character {
  Reading reading;
  size_t size;
};

// The Unicode Standard, table 3-7: the first byte fixes the length and the range of the second byte.
Character read_character(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t first = at(0);
  if (first < 0x80) return {Reading::kWhole, 1};
  if (first < 0xC2 || first > 0xF4) return {Reading::kWrong, 1};
  const size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Reading::kStart, i};
    uint8_t low = 0x80, high = 0xBF;
    if (i == 1 && first == 0xE0) low = 0xA0;
    if (i == 1 && first == 0xED) high = 0x9F;
    if (i == 1 && first == 0xF0) low = 0x90;
    if (i == 1 && first == 0xF4) high = 0x8F;
    if (at(i) < low || at(i) > high) return {Reading::kWrong, i};
  }
  return {Reading::kWhole, length};
}

}  // namespace

std::string take_characters(std::string& bytes) {
  std::string text;
  size_t done = 0;
  while (done < bytes.size()) {
    const std::string_view rest = std::string_view(bytes).substr(done);
    const Character character = read_character(rest);
    if (character.reading == Reading::kStart) break;
    text += character.reading == Reading::kWhole ? rest.substr(0, character.size) : kReplacement;
    done += character.size;
  }
  bytes.erase(0, done);
  return text;
}

}  // namespace fettle
