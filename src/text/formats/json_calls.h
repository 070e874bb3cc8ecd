// Tool calls as JSON objects {"name": ..., "arguments" or "parameters": {...}}: between <tool_call> tags, or
// bare as the whole answer. For this folder.
#pragma once

#include "text/formats/reply_reader.h"

namespace fettle {

// kTagged: <tool_call>{...}</tool_call>, any number of them.  kBare: an object at the start of the content,
// or after <|python_tag|>. A bare object that is no call is content.
enum class JsonCallStyle { kTagged, kBare };

std::unique_ptr<CallReader> make_json_call_reader(JsonCallStyle style);
std::vector<std::string> json_call_markup(JsonCallStyle style);

}  // namespace fettle
