#include "base/show_name.h"

#include <fmt/core.h>

namespace fettle {

std::string show_name(std::string_view untrusted_name) {
  constexpr size_t kLongest = 120;
  std::string out = "'";
  for (const char c : untrusted_name.substr(0, kLongest)) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f || c == '\\')
      out += fmt::format("\\x{:02x}", byte);
    else
      out += c;
  }
  return out + (untrusted_name.size() > kLongest ? "...'" : "'");
}

}  // namespace fettle
