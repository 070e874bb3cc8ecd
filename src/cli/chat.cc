#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/reply_options.h"
#include "cli/terminal.h"
#include "cli/verb.h"
#include "text/formats/format.h"

namespace fettle {

namespace {

struct ChatArguments {
  std::string model, system;
  bool hide_reasoning = false;
  ReplyOptions reply;
};

constexpr const char* kHelp =
    "/clear   forget the conversation; the system message stays\n"
    "/exit    end, as Ctrl-D does\n"
    "/help    these lines\n"
    "Ctrl-C stops a reply; what there is of it stays in the conversation.\n";

class ChatSession {
 public:
  ChatSession(const ChatArguments& args, OpenedModel model, std::shared_ptr<const Tokenizer> tokenizer,
              std::shared_ptr<const ChatFormat> format)
      : args_(args), model_(std::move(model)), tokenizer_(std::move(tokenizer)), format_(std::move(format)) {
    clear();
  }

  // Lines of a script are messages and nothing else, and its first error ends it. A person gets a prompt and
  // commands, and goes on.
  Status run() {
    LineReader reader;
    std::string line;
    if (!person_) {
      while (reader.next(&line) == LineReader::Got::kLine)
        if (!line.empty()) TRY_STATUS(turn(line));
      return {};
    }
    const CatchInterrupts catching;
    tell("Type a message; /help lists commands, Ctrl-D ends.\n");
    while (true) {
      tell("\n> ");
      const LineReader::Got got = reader.next(&line);
      if (got == LineReader::Got::kInterrupt) tell("\nCtrl-D or /exit ends.\n");
      if (got == LineReader::Got::kEnd) {
        tell("\n");
        return {};
      }
      if (got != LineReader::Got::kLine || line.empty()) continue;
      if (line == "/exit" || line == "/quit") return {};
      if (line[0] == '/') {
        command(line);
      } else if (const Status status = turn(line); !status.ok()) {
        tell(status.error().message() + "\n");
      }
    }
  }

 private:
  void command(const std::string& line) {
    if (line == "/help") return tell(kHelp);
    if (line != "/clear") return tell("unknown command '" + without_controls(line) + "'; /help lists them\n");
    clear();
    tell("The conversation starts anew.\n");
  }

  void clear() {
    messages_ = Json::array();
    if (!args_.system.empty()) messages_.push_back({{"role", "system"}, {"content", args_.system}});
  }

  // A message that got no answer leaves the conversation as it was.
  Status turn(const std::string& message) {
    messages_.push_back({{"role", "user"}, {"content", message}});
    ParsedReply parsed;
    auto reply = answer(&parsed);
    const bool stopped = person_ && CatchInterrupts::take();
    if (!reply.ok() || (stopped && parsed.content.empty())) {
      messages_.erase(messages_.size() - 1);
    } else {
      messages_.push_back(parsed.message());
    }
    if (!reply.ok()) return std::move(reply).error();
    if (stopped) {
      tell("(stopped)\n");
    } else if (!reply->ended) {
      tell(fmt::format("(cut off after {} tokens)\n", reply->tokens.size()));
    }
    return {};
  }

  // What the cache holds of the conversation is kept as far as the newly rendered prompt agrees with it.
  Result<Reply> answer(ParsedReply* parsed) {
    TRY(const std::string prompt, format_->render({{"messages", messages_}}, {}));
    TRY(const std::vector<int32_t> ids, tokenizer_->encode(prompt, false));
    size_t same = 0;
    while (same < fed_.size() && same + 1 < ids.size() && fed_[same] == ids[same]) ++same;
    same = kept_of(same);
    model_.executor->cache().truncate(sequence_, static_cast<int64_t>(same));
    StreamDecoder decoder(tokenizer_, true, format_->markup());
    const auto parser = format_->parser({.prompt = prompt, .calls = false});
    const auto show = [&](const std::vector<ReplyEvent>& events) {
      for (const ReplyEvent& event : events) {
        const bool reasoning = event.kind == ReplyEvent::Kind::kReasoning;
        if (reasoning && args_.hide_reasoning) continue;
        print_text(reasoning ? dim(shown(event.text)) : shown(event.text));
      }
      parsed->add(events);
    };
    const std::span<const int32_t> rest(ids.data() + same, ids.size() - same);
    auto reply = generate(*model_.executor, sequence_, rest, args_.reply.generate(model_, *tokenizer_),
                          [&](int32_t id) {
                            show(parser->feed(decoder.push(id)));
                            return !person_ || !CatchInterrupts::pending();
                          });
    fed_ = ids;
    if (reply.ok()) fed_.insert(fed_.end(), reply->tokens.begin(), reply->tokens.end());
    fed_.resize(std::min(fed_.size(), static_cast<size_t>(sequence_.length)));
    model_.executor->cache().truncate(sequence_, static_cast<int64_t>(fed_.size()));
    if (!reply.ok()) return reply;
    show(parser->feed(decoder.flush()));
    show(parser->finish());
    print_text("\n");
    return reply;
  }

  // Of so many tokens that the conversation still begins with. A draft's rows know the token after theirs.
  size_t kept_of(size_t same) {
    if (model_.speculation.kind == DraftKind::kMtp)
      same = std::min(same > 0 ? same - 1 : 0, static_cast<size_t>(sequence_.drafted));
    const int64_t limit = model_.executor->cache().rewind_limit(sequence_);
    return static_cast<int64_t>(same) < limit ? 0 : same;
  }

  // Beside the conversation, so that standard output holds replies only.
  void tell(const std::string& text) const {
    if (!person_) return;
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
  }
  static std::string dim(const std::string& text) { return isatty(1) ? "\033[2m" + text + "\033[0m" : text; }
  static std::string shown(const std::string& text) { return isatty(1) ? without_controls(text) : text; }

  const ChatArguments& args_;
  OpenedModel model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const ChatFormat> format_;
  bool person_ = isatty(0) != 0;
  Json messages_;
  Sequence sequence_;
  std::vector<int32_t> fed_;  // the tokens that the sequence holds
};

Status run_chat(const ChatArguments& args, const GlobalOptions& global) {
  if (global.json)
    return make_error(Code::kUsage, "a conversation is not one JSON value; use fettle run --json");
  TRY(const Isa isa, choose_isa(global.isa));
  TRY(OpenedModel model, open_model(args.model, {.threads = global.threads,
                                                 .isa = isa,
                                                 .cache_tokens = args.reply.context,
                                                 .speculation = args.reply.speculation}));
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
