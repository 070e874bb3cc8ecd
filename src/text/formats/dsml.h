// Tool calls in DSML, tags with special tokens in them:
//   <BLOCK> ( <invoke name="N"> ( <parameter name="k" string="true|false">value</parameter> )* </invoke> )*
//   </BLOCK>
// A string stands as it is, every other value as JSON. The name of the block is the format's. For this
// folder.
#pragma once

#include "text/formats/reply_reader.h"

namespace fettle {

// calls: a checked "tool_calls" of a message. Arguments that are no JSON object become one parameter
// "arguments".
std::string dsml_calls(const Json& calls, std::string_view block);
std::unique_ptr<CallReader> make_dsml_call_reader(std::string_view block);
std::vector<std::string> dsml_markup();

// What the prompts of the formats with DSML have in common.
// The messages with the request's tools and response_format on the first system message, which is made if
// there is none.
struct PreparedMessages {
  Json messages;
  size_t made = 0;  // messages that the request does not have: errors count without them
};
PreparedMessages with_request_tools(const Json& request);
// One JSON schema a line.
std::string tool_schemas(const Json& tools);
std::string response_format_text(const Json& schema);
// The text of a message's content. Parts join by a blank line; one that is no text is an error, or named in
// brackets where the content is a tool's result.
Result<std::string> content_text(const Json& message, const std::string& where);

}  // namespace fettle
