// DeepSeek-V3.1 and V3.2-Exp: thinking is a switch of the template (variable `thinking`), the prompt ends
// with <think> or </think>, and a call is its name, a separator and bare arguments.
#include "text/formats/entry.h"
#include "text/formats/jinja_format.h"
#include "text/formats/token_calls.h"

namespace fettle {
namespace {

constexpr std::string_view kId = "v3.1";

Result<std::shared_ptr<const ChatFormat>> load(const TextFiles& files) {
  TRY(auto chat_template, ChatTemplate::load(files));
  return make_jinja_format(std::move(chat_template),
                           {.id = kId,
                            .rules = {.content_key = true, .plain_content = true, .text_arguments = true},
                            .join_parts = true,
                            .calls = [] { return make_token_call_reader(TokenCallStyle::kBare); },
                            .markup = token_call_markup()});
}

}  // namespace

FormatEntry chat_format_v3_1() {
  return {kId,
          [](const FormatHints& hints) {
            return hints.template_has("<｜tool▁calls▁begin｜>") && hints.template_has("<｜tool▁sep｜>") &&
                   !hints.template_has("```json");
          },
          load};
}

}  // namespace fettle
