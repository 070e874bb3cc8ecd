// Hostile text files: the bytes up to the first zero are a chat template, those after it a tokenizer.json;
// either may be empty.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "text/text.h"

using namespace fettle;

namespace {

void render(std::string source) {
  const auto chat_template = ChatTemplate::load({{"chat_template.jinja", std::move(source)}});
  if (!chat_template.ok()) return;
  const Json variables = {
      {"messages",
       {{{"role", "user"}, {"content", "1 < 2 é"}}, {{"role", "assistant"}, {"content", nullptr}}}}};
  (void)(*chat_template)->render(variables, true);
}

void tokenize(std::string json) {
  const auto tokenizer = Tokenizer::load({{"tokenizer.json", std::move(json)}});
  if (!tokenizer.ok()) return;
  const auto ids = (*tokenizer)->encode("a 12 é\n<think>\U0001F642", true);
  if (!ids.ok()) return;
  const auto decoded = (*tokenizer)->decode(*ids, false);
  StreamDecoder stream(*tokenizer, false);
  std::string text;
  for (const int32_t id : *ids) text += stream.push(id);
  text += stream.flush();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string all(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(all.find('\0'), all.size());
  if (zero > 0) render(all.substr(0, zero));
  if (zero + 1 < all.size()) tokenize(all.substr(zero + 1));
  return 0;
}
