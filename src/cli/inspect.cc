#include <algorithm>
#include <map>

#include "arch/sizes.h"
#include "base/progress.h"
#include "cli/verb.h"
#include "fit/open_model.h"
#include "graph/text.h"
#include "runtime/kv_cache.h"
#include "text/formats/format.h"

namespace fettle {

namespace {

Json inspect_checkpoint(const Checkpoint& checkpoint, const BuiltGraph& built) {
  // Of a configuration alone: what the weights will take.
  const SourceSizes sizes = source_sizes(built);
  std::map<std::string, StorageCount> storage;
  if (!checkpoint.has_weights()) storage = sizes.by_scheme;
  uint64_t total = checkpoint.has_weights() ? 0 : sizes.total;
  for (const StoredTensor& t : checkpoint.tensors()) {
    StorageCount& count = storage[t.storage_name()];
    ++count.tensors;
    count.bytes += t.bytes;
    total += t.bytes;
  }
  Graph cached = built.graph;
  for (CacheSpec& c : cached.caches)
    if (c.kind != CacheKind::kRows) c.type = "bf16";
  Json json = {{"path", checkpoint.path()},
               {"format", checkpoint.format() == SourceFormat::kGguf ? "gguf" : "safetensors"},
               {"architecture", built.graph.architecture},
               {"parameters",
                {{"total", built.graph.parameters()},
                 {"active", built.graph.active_parameters()},
                 {"draft", built.draft ? draft_parameters(built.graph, *built.draft) : 0}}},
               {"bytes", {{"total", total}, {"by_part", sizes.by_part}}},
               {"tensors", checkpoint.tensors().size()},
               {"layers", built.graph.layers},
               {"hidden", built.graph.hidden},
               {"vocab", built.graph.vocab},
               {"context", built.graph.context},
               {"kv_bytes_per_token", kv_bytes_per_token(cached)}};
  for (const auto& [name, count] : storage)
    json["storage"][name] = {{"tensors", count.tensors}, {"bytes", count.bytes}};
  json["warnings"] = checkpoint.warnings();
  for (const std::string& field : built.unread_fields)
    json["warnings"].push_back(fmt::format("field '{}' is not known and has no effect", field));
  for (const std::string& unused : built.unused_tensors)
    json["warnings"].push_back("unused tensor " + unused);
  if (!checkpoint.has_weights())
    json["warnings"].push_back("no weights: sizes follow from the configuration");
  return json;
}

void inspect_text(const Checkpoint& checkpoint, Json* json) {
  const auto files = checkpoint.text_files();
  if (!files.ok()) return (*json)["warnings"].push_back(files.error().message());
  const auto tokenizer = Tokenizer::load(*files);
  if (!tokenizer.ok()) return (*json)["warnings"].push_back(tokenizer.error().message());
  Json& text = (*json)["tokenizer"];
  text["vocab"] = (*tokenizer)->vocab_size();
  if ((*tokenizer)->bos()) text["bos"] = *(*tokenizer)->bos();
  text["end_tokens"] = (*tokenizer)->end_tokens();
  text["chat_template"] = ChatTemplate::load(*files).ok();
  if (const auto format = load_chat_format(*files); format.ok()) text["chat_format"] = (*format)->id();
  if ((*tokenizer)->vocab_size() > (*json)["vocab"].get<int64_t>())
    (*json)["warnings"].push_back("the tokenizer knows more tokens than the model has embeddings");
}

std::string human(const Json& j) {
  std::string out = fmt::format(
      "{}\n  {} ({}), {} layers, hidden {}, vocabulary {}, context {}\n", j["path"].get<std::string>(),
      j["architecture"].get<std::string>(), j["format"].get<std::string>(), j["layers"].get<int64_t>(),
      j["hidden"].get<int64_t>(), j["vocab"].get<int64_t>(), j["context"].get<int64_t>());
  out +=
      fmt::format("  {:.1f} M parameters, {:.1f} M active for a token; {} tensors, {}\n",
                  j["parameters"]["total"].get<double>() / 1e6, j["parameters"]["active"].get<double>() / 1e6,
                  j["tensors"].get<int64_t>(), format_bytes(j["bytes"]["total"].get<uint64_t>()));
  if (const auto draft = j["parameters"]["draft"].get<double>(); draft > 0)
    out += fmt::format("  {:.1f} M parameters besides in a layer that drafts tokens\n", draft / 1e6);
  out +=
      fmt::format("  KV cache {} a token in bf16\n", format_bytes(j["kv_bytes_per_token"].get<uint64_t>()));
  for (const auto& [name, bytes] : j["bytes"]["by_part"].items()) {
    std::string part = name;
    std::replace(part.begin(), part.end(), '_', ' ');
    out += fmt::format("    {:<18} {:>10}\n", part, format_bytes(bytes.get<uint64_t>()));
  }
  if (j.contains("storage"))
    for (const auto& [name, count] : j["storage"].items())
      out += fmt::format("    {:<8} {:>5} tensors {:>10}\n", name, count["tensors"].get<int64_t>(),
                         format_bytes(count["bytes"].get<uint64_t>()));
  if (j.contains("tokenizer"))
    out += fmt::format("  tokenizer of {} tokens, {}\n", j["tokenizer"]["vocab"].get<int64_t>(),
                       j["tokenizer"].contains("chat_format")
                           ? "chat format " + j["tokenizer"]["chat_format"].get<std::string>()
                           : "no chat template");
  for (const Json& warning : j["warnings"]) out += "  note: " + warning.get<std::string>() + "\n";
  return out;
}

Status run_inspect(const std::string& model, const GlobalOptions& global) {
  if (is_artifact(model)) {
    TRY(const Artifact artifact, open_artifact(model));
    Json json = artifact.manifest;
    json.erase("weights");
    json.erase("files");
    print_json(json);
    return {};
  }
  TRY(const Checkpoint checkpoint, Checkpoint::open(model));
  TRY(const BuiltGraph built, build_graph(checkpoint));
  Json json = inspect_checkpoint(checkpoint, built);
  inspect_text(checkpoint, &json);
  if (global.json)
    print_json(json);
  else
    print_text(human(json));
  return {};
}

}  // namespace

void declare_inspect(CLI::App& app, const GlobalOptions& global, Action* action) {
  auto model = std::make_shared<std::string>();
  app.add_option("model", *model, "artifact, checkpoint directory (config.json is enough) or GGUF file")
      ->required();
  *action = [model, &global] { return run_inspect(*model, global); };
}

}  // namespace fettle
