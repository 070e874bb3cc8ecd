#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "base/show_name.h"
#include "checkpoint/gguf.h"
#include "checkpoint/tensor_index.h"

namespace fettle {

namespace {

struct Part {
  std::shared_ptr<const MappedFile> file;
  GgufFile gguf;
};

Result<Part> read_part(const std::string& path, GgufTokenizer* tokenizer = nullptr) {
  TRY(auto file, MappedFile::open(path));
  TRY(GgufFile gguf, parse_gguf(file->bytes(), path, tokenizer));
  return Part{std::move(file), std::move(gguf)};
}

// "DIR/NAME-00002-of-00003.gguf" -> the paths of all three parts.
Result<std::vector<std::string>> part_paths(const std::string& path, int64_t count) {
  constexpr std::string_view kPattern = "-#####-of-#####.gguf";
  const std::string_view tail =
      std::string_view(path).substr(path.size() - std::min(path.size(), kPattern.size()));
  const bool fits =
      std::equal(tail.begin(), tail.end(), kPattern.begin(), kPattern.end(), [](char c, char wanted) {
        return wanted == '#' ? std::isdigit(static_cast<unsigned char>(c)) != 0 : c == wanted;
      });
  const auto digits = [tail](size_t at) { return std::atoll(std::string(tail.substr(at, 5)).c_str()); };
  if (!fits || digits(10) != count || digits(1) < 1 || digits(1) > count)
    return bad_input("{}: one of {} parts by its metadata; expected a name that ends in -00001-of-{:05}.gguf",
                     path, count, count);
  const std::string stem = path.substr(0, path.size() - kPattern.size());
  std::vector<std::string> paths;
  for (int64_t part = 1; part <= count; ++part)
    paths.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", stem, part, count));
  return paths;
}

Status check_part(const Json& metadata, const std::string& path, int64_t number, int64_t count) {
  const JsonReader reader(metadata, path);
  TRY(const int64_t found_number, reader.integer("split.no"));
  TRY(const int64_t found_count, reader.integer("split.count"));
  if (found_number != number || found_count != count)
    return bad_input("{}: says it is part {} of {}; expected part {} of {}", path, found_number, found_count,
                     number, count);
  return {};
}

void append_tensors(Part&& part, std::vector<StoredTensor>* out) {
  for (GgufTensor& tensor : part.gguf.tensors)
    out->push_back({.name = std::move(tensor.name),
                    .shape = std::move(tensor.shape),
                    .dtype = tensor.dtype,
                    .scheme = tensor.scheme,
                    .data = part.file->bytes().data() + tensor.offset,
                    .bytes = tensor.bytes,
                    .file = part.file});
}

// The remaining words of what a generation_config.json would say.
std::optional<Json> generation_config(const Json& metadata) {
  std::vector<int64_t> ends;
  for (const char* field :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const Result<int64_t> id = JsonReader(metadata, "").integer(field);
    if (id.ok() && std::find(ends.begin(), ends.end(), *id) == ends.end()) ends.push_back(*id);
  }
  if (ends.empty()) return std::nullopt;
  Json config = Json::object();
  const Result<int64_t> begin = JsonReader(metadata, "").integer("tokenizer.ggml.bos_token_id");
  if (begin.ok()) config["bos_token_id"] = *begin;
  config["eos_token_id"] = ends.size() == 1 ? Json(ends[0]) : Json(ends);
  return config;
}

}  // namespace

Result<Checkpoint> open_gguf(const std::string& path) {
  TRY(Part named, read_part(path));
  TRY(const int64_t count, JsonReader(named.gguf.metadata, path).integer_or("split.count", 1));
  std::vector<std::string> paths = {path};
  if (count > 1) {
    TRY(paths, part_paths(path, count));
  }

  Checkpoint checkpoint;
  const auto add = [&](Part part, bool first) {
    if (first) checkpoint.config_ = std::move(part.gguf.metadata);
    append_tensors(std::move(part), &checkpoint.tensors_);
  };
  if (count <= 1) add(std::move(named), true);
  for (int64_t number = 0; count > 1 && number < count; ++number) {
    const std::string& part_path = paths[static_cast<size_t>(number)];
    Result<Part> part = read_part(part_path);
    if (!part.ok())
      return std::move(part).error().context(fmt::format("part {} of {}", number + 1, paths.size()));
    TRY_STATUS(check_part(part->gguf.metadata, part_path, number, count));
    add(std::move(part).value(), number == 0);
  }
  const JsonReader metadata(checkpoint.config_, paths[0]);
  TRY_STATUS(metadata.string("general.architecture"));
  TRY(const int64_t tensor_count,
      metadata.integer_or("split.tensors.count", static_cast<int64_t>(checkpoint.tensors_.size())));
  if (tensor_count != static_cast<int64_t>(checkpoint.tensors_.size()))
    return bad_input("{}: field 'split.tensors.count' is {}; the parts hold {}", paths[0], tensor_count,
                     checkpoint.tensors_.size());
  TRY(checkpoint.index_, index_tensors(checkpoint.tensors_, path));
  checkpoint.path_ = path;
  checkpoint.format_ = SourceFormat::kGguf;
  checkpoint.files_ = std::move(paths);
  return checkpoint;
}

Result<std::map<std::string, std::string>> gguf_text_files(const std::string& first_part) {
  GgufTokenizer tokenizer;
  TRY(const Part part, read_part(first_part, &tokenizer));
  const JsonReader metadata(part.gguf.metadata, first_part);
  std::map<std::string, std::string> files;
  if (metadata.has("tokenizer.huggingface.json")) {
    TRY(files["tokenizer.json"], metadata.string("tokenizer.huggingface.json"));
  } else if (metadata.has("tokenizer.ggml.model")) {
    Result<std::string> json = tokenizer_json_from_gguf(tokenizer);
    if (!json.ok()) return std::move(json).error().context(first_part);
    files["tokenizer.json"] = std::move(json).value();
  }
  if (files.empty()) return files;
  Result<std::string> config = tokenizer_config_from_gguf(tokenizer);
  if (!config.ok()) return std::move(config).error().context(first_part);
  files["tokenizer_config.json"] = std::move(config).value();
  if (const auto generation = generation_config(part.gguf.metadata))
    files["generation_config.json"] = dump_json(*generation);
  return files;
}

}  // namespace fettle
