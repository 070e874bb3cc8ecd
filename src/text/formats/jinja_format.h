// A format whose prompts the model's own Jinja template renders; which syntax its calls have is the format's
// choice. For this folder.
#pragma once

#include <functional>

#include "text/formats/reply_reader.h"
#include "text/formats/request.h"

namespace fettle {

struct JinjaTraits {
  std::string_view id;
  RequestRules rules;
  bool developer_role = false;    // the template knows it; otherwise it is sent as system
  bool join_parts = false;        // the template takes content as one text only
  bool object_arguments = false;  // the template writes arguments as JSON itself
  std::function<std::unique_ptr<CallReader>()> calls;  // null: no calls are recognised
  std::vector<std::string> markup;
};

std::shared_ptr<const ChatFormat> make_jinja_format(std::shared_ptr<const ChatTemplate> chat_template,
                                                    JinjaTraits traits);

}  // namespace fettle
