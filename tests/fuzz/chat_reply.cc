// Hostile replies: the first byte chooses the format, the second how the rest is split; the whole text and
// its pieces must be read alike. A text that is JSON is also rendered as a request.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "text/formats/format.h"

using namespace fettle;

namespace {

const std::vector<std::shared_ptr<const ChatFormat>>& formats() {
  static const auto made = [] {
    std::vector<std::shared_ptr<const ChatFormat>> all;
    for (const char* source : {"<｜tool▁calls▁begin｜><｜tool▁sep｜>", "<｜tool▁calls▁begin｜>```json",
                               "<tool_call>", "<|python_tag|>"})
      all.push_back(load_chat_format({{"chat_template.jinja", source}}).value());
    for (const char* id : {"v3.2", "v4"}) all.push_back(load_chat_format({{"chat_format", id}}).value());
    return all;
  }();
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const ChatFormat& format = *formats()[data[0] % formats().size()];
  const std::string text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const ParserStart start{.prompt = data[0] & 0x80 ? "<think>" : ""};
  const ParsedReply whole = parse_reply(format, start, text);

  const size_t step = 1 + data[1] % 7;
  const auto parser = format.parser(start);
  ParsedReply pieces;
  for (size_t at = 0; at < text.size(); at += step)
    pieces.add(parser->feed(std::string_view(text).substr(at, step)));
  pieces.add(parser->finish());
  CHECK(dump_json(pieces.message(), -1) == dump_json(whole.message(), -1));
  CHECK(pieces.errors == whole.errors);

  if (const auto request = parse_json(text, "request"); request.ok()) {
    for (const bool from_api : {false, true}) (void)format.render(request.value(), {.from_api = from_api});
  }
  return 0;
}
