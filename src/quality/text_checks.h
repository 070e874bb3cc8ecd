// Checks of the text that an adapted model writes by itself, against what its source wrote from the same
// beginnings.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "quality/certificate.h"

namespace fettle {

// Greedy text of small models repeats itself; adapting must not make that worse by much. Texts as tokens.
Check check_repetition(const std::vector<std::vector<int32_t>>& source,
                       const std::vector<std::vector<int32_t>>& adapted);

// A damaged model of many languages slips into another script. Texts in UTF-8, all continuations joined.
Check check_language_mix(std::string_view source, std::string_view adapted);

}  // namespace fettle
