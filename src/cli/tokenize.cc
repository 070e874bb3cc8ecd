#include "base/file.h"
#include "cli/model_text.h"
#include "cli/verb.h"
#include "text/text.h"

namespace fettle {

namespace {

struct TokenizeOptions {
  std::string model, text, file;
  bool special = false;
};

Status run_tokenize(const TokenizeOptions& options, const GlobalOptions& global) {
  std::string text = options.text;
  if (!options.file.empty()) {
    TRY(text, read_file(options.file));
  }
  TRY(const TextFiles files, model_text_files(options.model));
  TRY(const auto tokenizer, Tokenizer::load(files));
  TRY(const std::vector<int32_t> ids, tokenizer->encode(text, options.special));
  if (global.json) {
    print_text(dump_json({{"ids", ids}}, -1) + "\n");
    return {};
  }
  for (const int32_t id : ids)
    print_text(fmt::format("{:>8}  {}\n", id, tokenizer->token_text(id).value_or("?")));
  return {};
}

}  // namespace

void declare_tokenize(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto options = std::make_shared<TokenizeOptions>();
  app.add_option("model", options->model, "artifact, checkpoint directory or GGUF file")->required();
  auto* text = app.add_option("--text", options->text, "the text");
  app.add_option("--text-file", options->file, "read the text from a file")->excludes(text);
  app.add_flag("--special", options->special, "add the model's special tokens (BOS)");
  *action = [options, &global] { return run_tokenize(*options, global); };
}

}  // namespace fettle
