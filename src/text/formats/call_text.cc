#include "text/formats/call_text.h"

#include <algorithm>

namespace fettle {

size_t ArgumentsReader::feed(std::string_view text, EventWriter& out) {
  size_t skipped = 0;
  if (!started_) {
    skipped = std::min(text.find_first_not_of(" \t\r\n"), text.size());
    text.remove_prefix(skipped);
    if (text.empty()) return skipped;
    started_ = true;
    wrong_ = text[0] != '{';
  }
  if (wrong_) return skipped;
  const size_t size = scanner_.feed(text);
  out.arguments(std::string(text.substr(0, size)));
  return skipped + size;
}

std::string call_name(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  const std::string_view name = text.substr(first, text.find_last_not_of(kSpace) - first + 1);
  const bool control =
      std::any_of(name.begin(), name.end(), [](char c) { return static_cast<uint8_t>(c) < 0x20; });
  return control ? std::string() : std::string(name);
}

}  // namespace fettle
