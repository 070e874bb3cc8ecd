#include "cli/model_text.h"
#include "cli/verb.h"
#include "text/formats/format.h"

namespace fettle {

namespace {

struct TemplateOptions {
  std::string model, messages;
  bool no_generation_prompt = false;
};

Status run_template(const TemplateOptions& options, const GlobalOptions& global) {
  TRY(Json variables, read_json_file(options.messages));
  if (variables.is_array()) variables = Json{{"messages", std::move(variables)}};
  if (!variables.is_object() || !variables.contains("messages"))
    return bad_input("{}: expected a list of messages or an object with 'messages'", options.messages);
  TRY(const TextFiles files, model_text_files(options.model));
  TRY(const auto format, load_chat_format(files));
  const auto prompt = format->render(variables, {.add_generation_prompt = !options.no_generation_prompt});
  if (!prompt.ok()) return Error(prompt.error()).context(options.messages);
  if (global.json)
    print_json({{"prompt", *prompt}, {"chat_format", format->id()}});
  else
    print_text(*prompt);
  return {};
}

}  // namespace

void declare_template(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto options = std::make_shared<TemplateOptions>();
  app.add_option("model", options->model, "artifact, checkpoint directory or GGUF file")->required();
  app.add_option("--messages", options->messages, "JSON file: a list of messages, or {messages, tools, ...}")
      ->required();
  app.add_flag("--no-generation-prompt", options->no_generation_prompt, "do not open the assistant's turn");
  *action = [options, &global] { return run_template(*options, global); };
}

}  // namespace fettle
