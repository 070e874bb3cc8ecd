// Bytes that arrive piece by piece -> whole UTF-8 characters. For this folder.
#pragma once

#include <string>
#include <string_view>

namespace fettle {

// The replacement for bytes that are no character.
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Takes from the front of `bytes` everything that is decided: whole characters, and one U+FFFD for each wrong
// run (Unicode's "maximal subpart", as every decoder that replaces does it). What may still become a
// character stays, at most 3 bytes.
std::string take_characters(std::string& bytes);

}  // namespace fettle
