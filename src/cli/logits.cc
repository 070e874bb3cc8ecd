#include "base/file.h"
#include "cli/verb.h"
#include "fit/open_model.h"
#include "tensor/safetensors_write.h"

namespace fettle {

namespace {

struct LogitsOptions {
  std::string model, ids, out;
  bool exact = false;
  int64_t chunk = 0;
  Numerics numerics;
};

Status run_logits(const LogitsOptions& options, const GlobalOptions& global) {
  TRY(const Json json, read_json_file(options.ids));
  TRY(const auto wide, JsonReader(json, options.ids).integers("ids"));
  std::vector<int32_t> ids;
  for (const int64_t id : wide) {
    if (id < 0 || id > INT32_MAX) return bad_input("{}: id {} is out of range", options.ids, id);
    ids.push_back(static_cast<int32_t>(id));
  }
  if (ids.empty()) return bad_input("{}: 'ids' is empty", options.ids);
  TRY(const Isa isa, choose_isa(global.isa));
  const int64_t chunk = options.chunk > 0 ? options.chunk : 256;
  TRY(OpenedModel model, open_model(options.model, {.exact = options.exact,
                                                    .threads = global.threads,
                                                    .isa = isa,
                                                    .max_tokens = chunk,
                                                    .max_logit_rows = chunk,
                                                    .cache_tokens = static_cast<int64_t>(ids.size()),
                                                    .numerics = options.numerics}));
  const int64_t vocab = model.executor->graph().vocab;
  std::vector<float> all;
  all.reserve(ids.size() * static_cast<size_t>(vocab));
  Sequence sequence;
  TRY(const auto last,
      model.executor->feed(sequence, ids, chunk, [&](int64_t, std::span<const float> rows, int64_t) {
        all.insert(all.end(), rows.begin(), rows.end());
      }));
  (void)last;
  const TensorToWrite tensor{"logits", DType::kF32, {static_cast<int64_t>(ids.size()), vocab}, all.data()};
  TRY_STATUS(write_safetensors(options.out, {&tensor, 1}));
  if (global.json) print_json({{"out", options.out}, {"rows", ids.size()}, {"vocab", vocab}});
  return {};
}

}  // namespace

void declare_logits(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto options = std::make_shared<LogitsOptions>();
  app.add_option("model", options->model, "artifact, checkpoint directory or GGUF file")->required();
  app.add_option("--ids", options->ids, R"(JSON file: {"ids": [...]})")->required();
  app.add_option("--out", options->out, "safetensors file to write: logits, fp32 [T, vocab]")->required();
  app.add_flag("--exact", options->exact, "unmodified graph, fp32 weights, kernels and cache");
  declare_numerics(app, &options->numerics);
  app.add_option("--chunk", options->chunk, "tokens a step through the cache; 1: token by token")
      ->check(CLI::Range(1, 65536));
  *action = [options, &global] { return run_logits(*options, global); };
}

}  // namespace fettle
