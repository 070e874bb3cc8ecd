#include "quality/wording.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace fettle::wording {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr uint32_t kInvalid = 0xFFFFFFFF;

// One code point of UTF-8 at text[*at], moving on; kInvalid (and one byte on) for anything that RFC 3629
// forbids.
uint32_t next_code_point(std::string_view text, size_t* at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte((*at)++);
  if (lead < 0x80) return lead;
  const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  if (lead < 0xC2 || lead > 0xF4) return kInvalid;
  uint32_t code = lead & (0x3Fu >> more);
  size_t i = *at;
  for (int k = 0; k < more; ++k, ++i) {
    if (i >= text.size() || (byte(i) & 0xC0) != 0x80) return kInvalid;
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  constexpr std::array<uint32_t, 4> kLeast{0, 0x80, 0x800, 0x10000};
  if (code < kLeast[static_cast<size_t>(more)] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
    return kInvalid;
  }
  *at = i;
  return code;
}

bool misleads(uint32_t c) {
  return c == kInvalid || c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x200E || c == 0x200F || c == 0x061C ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF ||
         (c & 0xFFFE) == 0xFFFE;  // non-characters
}

// The blocks whose characters fill two columns (Unicode Standard Annex 11, the large ones), and marks that
// fill none.
int columns_of(uint32_t c) {
  if ((c >= 0x300 && c < 0x370) || c == 0x200B || c == 0x200D || (c >= 0xFE00 && c < 0xFE10)) return 0;
  const bool wide = (c >= 0x1100 && c < 0x1160) || (c >= 0x2E80 && c < 0xA4D0) ||
                    (c >= 0xAC00 && c < 0xD7A4) || (c >= 0xF900 && c < 0xFB00) ||
                    (c >= 0xFE30 && c < 0xFE70) || (c >= 0xFF00 && c < 0xFF61) ||
                    (c >= 0x1F300 && c < 0x1F650) || (c >= 0x20000 && c < 0x3FFFE);
  return wide ? 2 : 1;
}

std::string group_digits(std::string digits) {
  const size_t start = digits[0] == '-' ? 1 : 0;
  for (size_t i = digits.size(); i > start + 3;) digits.insert(i -= 3, ",");
  return digits;
}

std::string between(const std::string& low, const std::string& high) { return low + " to " + high; }

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const uint32_t code = next_code_point(text, &at);
    out += misleads(code) ? kReplacement : text.substr(begin, at - begin);
  }
  return out;
}

int64_t display_width(std::string_view text) {
  int64_t width = 0;
  for (size_t at = 0; at < text.size();) width += columns_of(next_code_point(text, &at));
  return width;
}

std::string shorten(std::string_view text, int64_t columns) {
  const int64_t width = display_width(text);
  if (width <= columns) return std::string(text);
  const int64_t head = columns / 2, tail = columns - 1 - head;
  std::string first, last;
  int64_t seen = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const int columns_here = columns_of(next_code_point(text, &at));
    if (seen + columns_here <= head) first += text.substr(begin, at - begin);
    if (seen >= width - tail) last += text.substr(begin, at - begin);
    seen += columns_here;
  }
  return first + "…" + last;
}

std::string figure(double value) {
  if (std::isnan(value)) return "–";
  if (std::isinf(value)) return value > 0 ? "infinite" : "minus infinite";
  if (value == 0) return "0";
  const double size = std::fabs(value);
  if (size >= 999.5)
    return size < 1e15 ? group_digits(fmt::format("{:.0f}", value)) : fmt::format("{:.2e}", value);
  if (size >= 99.95) return fmt::format("{:.0f}", value);
  return size < 1e-4 ? fmt::format("{:.2g}", value) : fmt::format("{:#.3g}", value);
}

std::string percent(double share, int digits) {
  if (std::isnan(share)) return "–";
  // "100.00 %" is only for all of them.
  const double unit = std::pow(10.0, digits);
  if (share < 1 && share * 100 > 100 - 0.5 / unit) share = 1 - 0.01 / unit;
  return fmt::format("{:.{}f} %", share * 100, digits);
}

std::string whole(int64_t value) { return group_digits(std::to_string(value)); }

std::string magnitude(int64_t value) {
  constexpr std::array<std::string_view, 5> kUnits{"", " k", " M", " B", " T"};
  double v = static_cast<double>(value);
  size_t unit = 0;
  while (std::fabs(v) >= 999.5 && unit + 1 < kUnits.size()) {
    v /= 1000;
    ++unit;
  }
  return unit == 0 ? std::to_string(value) : figure(v) + std::string(kUnits[unit]);
}

std::string interval(const Interval& i) {
  if (std::isnan(i.low) || std::isnan(i.high)) return "";
  return between(figure(i.low), figure(i.high));
}

std::string percent_interval(const Interval& i, int digits) {
  if (std::isnan(i.low) || std::isnan(i.high)) return "";
  return between(fmt::format("{:.{}f}", i.low * 100, digits), percent(i.high, digits));
}

}  // namespace fettle::wording
