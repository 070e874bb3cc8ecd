#include "base/file.h"
#include "cli/reply_options.h"
#include "cli/verb.h"
#include "text/formats/format.h"

namespace fettle {

namespace {

struct RunOptions {
  std::string model, prompt, prompt_file, system;
  bool raw = false, exact = false;
  Numerics numerics;
  ReplyOptions reply;
};

// The prompt's tokens: rendered as one user turn, or as it is.
Result<std::string> render(const RunOptions& options, const std::string& prompt, const ChatFormat* format) {
  if (!format) return prompt;
  Json messages = Json::array();
  if (!options.system.empty()) messages.push_back({{"role", "system"}, {"content", options.system}});
  messages.push_back({{"role", "user"}, {"content", prompt}});
  return format->render({{"messages", messages}}, {});
}

// The reply as an API would give it: reasoning, content and calls apart.
Json message_of(const ChatFormat& format, const std::string& prompt,
                const std::shared_ptr<const Tokenizer>& tokenizer, const std::vector<int32_t>& tokens) {
  StreamDecoder decoder(tokenizer, true, format.markup());
  std::string text;
  for (const int32_t id : tokens) text += decoder.push(id);
  return parse_reply(format, {.prompt = prompt, .calls = false}, text + decoder.flush()).message();
}

Status run_prompt(const RunOptions& options, const GlobalOptions& global) {
  std::string prompt = options.prompt;
  if (!options.prompt_file.empty()) {
    TRY(prompt, read_file(options.prompt_file));
  }
  TRY(const Isa isa, choose_isa(global.isa));
  TRY(OpenedModel model, open_model(options.model, {.exact = options.exact,
                                                    .threads = global.threads,
                                                    .isa = isa,
                                                    .cache_tokens = options.reply.context,
                                                    .numerics = options.numerics,
                                                    .speculation = options.reply.speculation}));
  TRY(const auto tokenizer, Tokenizer::load(model.text_files));
  std::shared_ptr<const ChatFormat> format;
  if (!options.raw) {
    TRY(format, load_chat_format(model.text_files));
  }
  TRY(const std::string rendered, render(options, prompt, format.get()));
  TRY(const std::vector<int32_t> ids, tokenizer->encode(rendered, false));
  StreamDecoder decoder(tokenizer, true);
  std::string text;
  const auto emit = [&](const std::string& piece) {
    text += piece;
    if (!global.json) print_text(piece);
  };
  Sequence sequence;
  TRY(const Reply reply,
      generate(*model.executor, sequence, ids, options.reply.generate(model, *tokenizer), [&](int32_t id) {
        emit(decoder.push(id));
        return true;
      }));
  emit(decoder.flush());
  if (!global.json) {
    print_text("\n");
    return {};
  }
  Json json = {{"text", text},
               {"tokens", reply.tokens},
               {"prompt_tokens", ids.size()},
               {"finish_reason", reply.ended ? "stop" : "length"},
               {"load_s", model.load_s},
               {"prefill_s", reply.prefill_s},
               {"decode_s", reply.decode_s},
               {"speculation",
                {{"use", speculation_text(model.speculation)},
                 {"steps", reply.steps},
                 {"drafted", reply.drafted},
                 {"accepted", reply.accepted}}}};
  if (format) json["message"] = message_of(*format, rendered, tokenizer, reply.tokens);
  print_json(json);
  return {};
}

}  // namespace

void declare_speculation(CLI::App& app, std::optional<Speculation>* speculation, const std::string& what) {
  const auto read = [speculation](const std::string& text) {
    const auto parsed = parse_speculation(text);
    if (!parsed.ok()) throw CLI::ValidationError("--speculate", parsed.error().message());
    *speculation = *parsed;
  };
  app.add_option_function<std::string>("--speculate", read, what)->type_name("none|mtp|ngram[:K]");
}

void declare_run(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto options = std::make_shared<RunOptions>();
  app.add_option("model", options->model, "artifact, checkpoint directory or GGUF file")->required();
  auto* prompt = app.add_option("--prompt", options->prompt, "the prompt");
  app.add_option("--prompt-file", options->prompt_file, "read the prompt from a file")->excludes(prompt);
  app.add_option("--system", options->system, "a system message");
  app.add_flag("--raw", options->raw, "no chat template, no special tokens added");
  app.add_flag("--exact", options->exact, "fp32 everywhere (checkpoints only)");
  declare_numerics(app, &options->numerics);
  options->reply.declare(app);
  *action = [options, &global] { return run_prompt(*options, global); };
}

}  // namespace fettle
