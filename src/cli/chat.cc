#include <unistd.h>

#include <iostream>

#include "cli/reply_options.h"
#include "cli/verb.h"
#include "text/formats/format.h"

namespace fettle {

namespace {

struct ChatArguments {
  std::string model, system;
  bool hide_reasoning = false;
  ReplyOptions reply;
};

class ChatSession {
 public:
  ChatSession(const ChatArguments& args, OpenedModel model, std::shared_ptr<const Tokenizer> tokenizer,
              std::shared_ptr<const ChatFormat> format)
      : args_(args), model_(std::move(model)), tokenizer_(std::move(tokenizer)), format_(std::move(format)) {
    if (!args.system.empty()) messages_.push_back({{"role", "system"}, {"content", args.system}});
  }

  Status run() {
    const bool terminal = isatty(0) != 0;
    if (terminal) print_text("Type a message; an empty line or Ctrl-D ends.\n");
    std::string line;
    while (true) {
      if (terminal) print_text("\n> ");
      if (!std::getline(std::cin, line) || line.empty()) return {};
      TRY_STATUS(turn(line));
    }
  }

 private:
  // What the cache holds of the conversation is kept as far as the newly rendered prompt agrees with it.
  Status turn(const std::string& message) {
    messages_.push_back({{"role", "user"}, {"content", message}});
    TRY(const std::string prompt, format_->render({{"messages", messages_}}, {}));
    TRY(const std::vector<int32_t> ids, tokenizer_->encode(prompt, false));
    size_t same = 0;
    while (same < fed_.size() && same + 1 < ids.size() && fed_[same] == ids[same]) ++same;
    same = std::min(same, static_cast<size_t>(sequence_.length));
    model_.executor->cache().truncate(sequence_, static_cast<int64_t>(same));
    StreamDecoder decoder(tokenizer_, true, format_->markup());
    const auto parser = format_->parser({.prompt = prompt, .calls = false});
    ParsedReply answer;
    const auto show = [&](const std::vector<ReplyEvent>& events) {
      for (const ReplyEvent& event : events) {
        const bool reasoning = event.kind == ReplyEvent::Kind::kReasoning;
        if (!reasoning || !args_.hide_reasoning) print_text(reasoning ? dim(event.text) : event.text);
      }
      answer.add(events);
    };
    const std::span<const int32_t> rest(ids.data() + same, ids.size() - same);
    TRY(const Reply reply,
        generate(*model_.executor, sequence_, rest, args_.reply.generate(*tokenizer_), [&](int32_t id) {
          show(parser->feed(decoder.push(id)));
          return true;
        }));
    show(parser->feed(decoder.flush()));
    show(parser->finish());
    print_text("\n");
    fed_ = ids;
    fed_.insert(fed_.end(), reply.tokens.begin(), reply.tokens.end());
    messages_.push_back(answer.message());
    return {};
  }

  static std::string dim(const std::string& text) { return isatty(1) ? "\033[2m" + text + "\033[0m" : text; }

  const ChatArguments& args_;
  OpenedModel model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const ChatFormat> format_;
  Json messages_ = Json::array();
  Sequence sequence_;
  std::vector<int32_t> fed_;
};

Status run_chat(const ChatArguments& args, const GlobalOptions& global) {
  TRY(const Isa isa, choose_isa(global.isa));
  TRY(OpenedModel model,
      open_model(args.model, {.threads = global.threads, .isa = isa, .cache_tokens = args.reply.context}));
  TRY(auto tokenizer, Tokenizer::load(model.text_files));
  TRY(auto format, load_chat_format(model.text_files));
  return ChatSession(args, std::move(model), std::move(tokenizer), std::move(format)).run();
}

}  // namespace

void declare_chat(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto args = std::make_shared<ChatArguments>();
  app.add_option("model", args->model, "artifact, checkpoint directory or GGUF file")->required();
  app.add_option("--system", args->system, "a system message");
  app.add_flag("--hide-reasoning", args->hide_reasoning, "show only the answer");
  args->reply.declare(app);
  args->reply.max_tokens = 1024;
  *action = [args, &global] { return run_chat(*args, global); };
}

}  // namespace fettle
