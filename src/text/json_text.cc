#include "text/json_text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace fettle {
namespace {

// The shortest digits that read back, with an exponent below 1e-4 and from 1e16, as Python's repr.
std::string float_repr(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  char buffer[64];
  const auto in = [&](std::chars_format format) {
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, format).ptr);
  };
  const double size = std::fabs(value);
  if (size != 0 && (size < 1e-4 || size >= 1e16)) return in(std::chars_format::scientific);
  std::string text = in(std::chars_format::fixed);
  return text.find('.') == std::string::npos ? text + ".0" : text;
}

void write(const Json& value, std::string& out) {
  bool first = true;
  const auto comma = [&] {
    if (!first) out += ", ";
    first = false;
  };
  switch (value.type()) {
    case Json::value_t::object:
      out += '{';
      for (const auto& [key, item] : value.items()) {
        comma();
        out += json_string(key) + ": ";
        write(item, out);
      }
      out += '}';
      return;
    case Json::value_t::array:
      out += '[';
      for (const Json& item : value) {
        comma();
        write(item, out);
      }
      out += ']';
      return;
    case Json::value_t::string:
      out += json_string(value.get_ref<const std::string&>());
      return;
    case Json::value_t::number_float:
      out += float_repr(value.get<double>());
      return;
    default:
      out += dump_json(value, -1);
  }
}

// The code point at `i`, which moves behind it; bytes that are no character stand for themselves.
uint32_t next_code_point(std::string_view text, size_t& i) {
  const auto at = [&](size_t k) { return static_cast<uint8_t>(text[k]); };
  const uint8_t first = at(i++);
  const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : 0;
  if (more == 0 || i + static_cast<size_t>(more) > text.size()) return first;
  uint32_t code = first & (0x3Fu >> more);
  for (int k = 0; k < more; ++k) code = (code << 6) | (at(i++) & 0x3Fu);
  return code;
}

}  // namespace

std::string python_json(const Json& value) {
  std::string out;
  write(value, out);
  return out;
}

std::string json_escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<uint8_t>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<int>(c));
        else
          out += c;
    }
  }
  return out;
}

std::string json_string(std::string_view text) { return '"' + json_escaped(text) + '"'; }

std::string ascii_json_string(std::string_view text) {
  const std::string quoted = json_string(text);
  std::string out;
  for (size_t i = 0; i < quoted.size();) {
    const uint32_t code = next_code_point(quoted, i);
    if (code < 0x80)
      out += static_cast<char>(code);
    else if (code < 0x10000)
      out += fmt::format("\\u{:04x}", code);
    else
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10),
                         0xDC00 + ((code - 0x10000) & 0x3FF));
  }
  return out;
}

}  // namespace fettle
