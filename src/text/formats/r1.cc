// DeepSeek-R1 and its distills. The template keeps the last system message, cuts reasoning from earlier
// answers, and may already open <think>, so that the reply begins inside reasoning. Its quirks with several
// calls are what the models were trained on, so it is rendered as it is.
#include "text/formats/entry.h"
#include "text/formats/jinja_format.h"
#include "text/formats/token_calls.h"

namespace fettle {
namespace {

constexpr std::string_view kId = "r1";

Result<std::shared_ptr<const ChatFormat>> load(const TextFiles& files) {
  TRY(auto chat_template, ChatTemplate::load(files));
  return make_jinja_format(std::move(chat_template),
                           {.id = kId,
                            .rules = {.content_key = true, .plain_content = true, .text_arguments = true},
                            .join_parts = true,
                            .calls = [] { return make_token_call_reader(TokenCallStyle::kFenced); },
                            .markup = token_call_markup()});
}

}  // namespace

FormatEntry chat_format_r1() {
  return {kId,
          [](const FormatHints& hints) {
            return hints.template_has("<｜tool▁calls▁begin｜>") && hints.template_has("```json") &&
                   hints.template_has("think>");
          },
          load};
}

}  // namespace fettle
