// How numbers and foreign names are put before people, the same in the text table and in the HTML report.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "quality/metrics.h"

namespace fettle::wording {

// Valid UTF-8 without control characters, line breaks or bidirectional overrides, each replaced by U+FFFD: a
// hostile model name must not move a terminal's cursor or turn a line around.
std::string printable(std::string_view text);
int64_t display_width(std::string_view printable_text);                 // columns of a terminal
std::string shorten(std::string_view printable_text, int64_t columns);  // the middle gives way to "…"

// A NaN is "–", infinities "infinite".
std::string figure(double value);                   // three significant digits: 0.00412, 12.3, 1,230, 3.2e-05
std::string percent(double share, int digits = 2);  // 98.12 %
std::string whole(int64_t value);                   // 12,288
std::string magnitude(int64_t value);               // 494 M, 7.62 B
std::string interval(const Interval& i);            // "0.0038 to 0.0045", or "" when its bounds are unknown
std::string percent_interval(const Interval& i, int digits = 2);

}  // namespace fettle::wording
