// What a conversation must look like before a format renders it, and the switches beside the messages.
// For this folder.
#pragma once

#include <optional>
#include <span>

#include "text/formats/format.h"

namespace fettle {

// What one format demands beyond what all do.
struct RequestRules {
  std::span<const std::string_view> roles = {};  // empty: any
  bool content_key = false;                      // the key "content" must be there, be it null
  bool plain_content = false;                    // content is a string or null, never parts
  bool text_arguments = false;                   // arguments of calls are text, never an object
};

// Errors name the message by its index and the field.
Status check_depth(const Json& request);  // before anything that recurses, copying included
Status check_request(const Json& request, const RequestRules& rules);

// The field as JSON, or null.
const Json& field_of(const Json& object, const char* name);
// "" if it is missing, null or no string.
std::string text_of(const Json& object, const char* name);

// Whether the model is to think, and how hard, in any of the ways that clients say it: thinking_mode,
// thinking, enable_thinking (also inside chat_template_kwargs), reasoning_effort.
struct Thinking {
  std::optional<bool> on;
  std::string effort;  // "", "low", "high" or "max"
};
Result<Thinking> read_thinking(const Json& request);

}  // namespace fettle
