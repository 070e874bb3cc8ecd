// Can the model be talked to in its own format? Renders and reads back a short chat, reasoning and a tool
// call. For certificates and for a server at its start.
#pragma once

#include "text/formats/format.h"

namespace fettle {

struct FormatCheck {
  bool passed = false;
  bool reasoning = false;  // the format has reasoning, and it was read back
  bool calls = false;      // the same of tool calls
  std::string detail;      // one line: what was tried, or what differs
};

// An error only if the format cannot render a plain chat at all.
Result<FormatCheck> test_chat_format(const ChatFormat& format, const Tokenizer& tokenizer);

}  // namespace fettle
