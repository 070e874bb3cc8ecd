// Text on its way into HTML, SVG or a double-quoted attribute. Everything that is not written in this folder
// passes through here.
#pragma once

#include <string>
#include <string_view>

#include "quality/wording.h"

namespace fettle {

inline std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : wording::printable(text)) {
    switch (c) {
      case '%':  // stays on the line of its number
        if (out.ends_with(' ')) out.replace(out.size() - 1, 1, "&#160;");
        out += c;
        break;
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace fettle
