#include "checkpoint/hugging_face.h"

#include <set>

#include "base/json_stream.h"
#include "base/show_name.h"
#include "checkpoint/block_scales.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_index.h"

namespace fettle {

namespace {

constexpr char kSingle[] = "model.safetensors";
constexpr uint64_t kLargestConfig = uint64_t{16}
                                    << 20;  // lists of excluded layers make some reach a megabyte
constexpr char kIndex[] = "model.safetensors.index.json";

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

class IndexReader : public JsonVisitor {
 public:
  explicit IndexReader(const std::string& what) : what_(what) {}
  bool found_map() const { return found_map_; }
  std::unordered_map<std::string, std::string> take() { return std::move(files_); }

  Status opened(JsonKeys keys, bool array) override {
    if (keys.empty() && array) return bad_input("{}: a list; expected an object with 'weight_map'", what_);
    if (keys.empty() || keys[0] != "weight_map") return {};
    if (keys.size() > 1 || array) return wrong(keys.back(), "a list or object");
    found_map_ = true;
    return {};
  }
  Status scalar(JsonKeys keys, const JsonScalar& value) override {
    if (keys.empty() || keys[0] != "weight_map") return {};
    const std::string_view* file = std::get_if<std::string_view>(&value);
    if (keys.size() != 2 || !file) return wrong(keys.back(), "not a file name");
    if (!is_plain_file_name(*file)) return wrong(keys.back(), show_name(*file));
    files_.emplace(keys[1], *file);
    return {};
  }

 private:
  Error wrong(const std::string& name, const std::string& found) const {
    return bad_input("{}: weight_map: {} is {}; expected the name of a file in the same directory", what_,
                     show_name(name), found);
  }

  const std::string& what_;
  std::unordered_map<std::string, std::string> files_;
  bool found_map_ = false;
};

struct Weights {
  std::vector<StoredTensor> tensors;
  std::vector<std::string> files;
  std::vector<std::string> warnings;
};

Result<Weights> read_shards(const std::string& directory) {
  const std::string index_path = join_path(directory, kIndex);
  TRY(std::string text, read_file(index_path));
  TRY(auto shard_of, parse_shard_index(text, index_path));
  std::set<std::string> shards;
  for (const auto& [name, shard] : shard_of) shards.insert(shard);

  Weights weights{.tensors = {}, .files = {index_path}, .warnings = {}};
  for (const std::string& shard : shards) {
    const std::string path = join_path(directory, shard);
    Result<std::vector<StoredTensor>> tensors = read_safetensors(path);
    if (!tensors.ok())
      return std::move(tensors).error().context(fmt::format("shard named by {}", index_path));
    weights.files.push_back(path);
    size_t unlisted = 0;
    for (StoredTensor& tensor : *tensors) {
      const auto listed = shard_of.find(tensor.name);
      if (listed == shard_of.end() || listed->second != shard) {
        ++unlisted;
        continue;
      }
      weights.tensors.push_back(std::move(tensor));
      shard_of.erase(listed);
    }
    if (unlisted > 0)
      weights.warnings.push_back(
          fmt::format("{}: {} tensors that {} does not place there; left out", path, unlisted, kIndex));
  }
  if (!shard_of.empty())
    return bad_input(
        "{}: tensor {} should be in {}, which does not hold it ({} tensors are missing); fetch the shard "
        "again",
        index_path, show_name(shard_of.begin()->first), show_name(shard_of.begin()->second), shard_of.size());
  return weights;
}

// A directory without weights is in order when nobody could take its files for weights that were meant.
Result<Weights> no_weights(const std::string& directory) {
  TRY(auto names, list_directory(directory));
  Weights weights;
  for (const std::string& name : names) {
    if (name.ends_with(".safetensors"))
      return bad_input("{}: holds {} but neither {} nor {}; weights are read only from these", directory,
                       show_name(name), kSingle, kIndex);
    if (name.ends_with(".gguf"))
      weights.warnings.push_back(fmt::format("{}: no safetensors weights, only {}; name that file to read it",
                                             directory, show_name(name)));
    if (name.ends_with(".bin") || name.ends_with(".pth"))
      weights.warnings.push_back(
          fmt::format("{}: {} is not read; convert the weights to safetensors", directory, show_name(name)));
  }
  return weights;
}

Result<Weights> read_weights(const std::string& directory) {
  const std::string single = join_path(directory, kSingle);
  if (path_exists(single)) {
    TRY(auto tensors, read_safetensors(single));
    Weights weights{.tensors = std::move(tensors), .files = {single}, .warnings = {}};
    if (path_exists(join_path(directory, kIndex)))
      weights.warnings.push_back(
          fmt::format("{}: {} and {} both exist; the first is read", directory, kSingle, kIndex));
    return weights;
  }
  if (path_exists(join_path(directory, kIndex))) return read_shards(directory);
  return no_weights(directory);
}

}  // namespace

Result<std::unordered_map<std::string, std::string>> parse_shard_index(std::string_view text,
                                                                       const std::string& what) {
  IndexReader reader(what);
  TRY_STATUS(stream_json(text, what, reader));
  if (!reader.found_map())
    return bad_input("{}: field 'weight_map' is missing; expected an object of tensor: file", what);
  return reader.take();
}

Result<Checkpoint> open_hugging_face(const std::string& directory) {
  const std::string config_path = join_path(directory, "config.json");
  if (!path_exists(config_path))
    return bad_input("{}: no config.json; expected a Hugging Face model directory or the path of a GGUF file",
                     directory);
  TRY(const std::string config_text, read_file(config_path, kLargestConfig));
  TRY(Json config, parse_json(config_text, config_path));
  if (!config.is_object())
    return bad_input("{}: not a JSON object; expected the model's configuration", config_path);
  TRY(Weights weights, read_weights(directory));
  TRY(auto index, index_tensors(weights.tensors, directory));
  TRY(const bool joined, join_block_scales(config, config_path, index, &weights.tensors));
  if (joined) {
    TRY(index, index_tensors(weights.tensors, directory));
  }

  Checkpoint checkpoint;
  checkpoint.path_ = directory;
  checkpoint.format_ = SourceFormat::kHuggingFace;
  checkpoint.config_ = std::move(config);
  checkpoint.tensors_ = std::move(weights.tensors);
  checkpoint.index_ = std::move(index);
  checkpoint.files_ = {config_path};
  checkpoint.files_.insert(checkpoint.files_.end(), weights.files.begin(), weights.files.end());
  checkpoint.warnings_ = std::move(weights.warnings);
  return checkpoint;
}

}  // namespace fettle
