// A checkpoint as its makers published it: named tensors (read-only maps, nothing copied), its configuration
// and its text files. Opens a Hugging Face directory (config.json with safetensors, single or sharded, or no
// weights at all) or a GGUF file (single or split; any part may be named). Nothing in it is trusted: every
// length, offset, count and name is checked before use.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "tensor/dtype.h"
#include "tensor/matrix.h"

namespace fettle {

enum class SourceFormat { kHuggingFace, kGguf };

// One stored tensor. Shape is row-major (GGUF's order reversed). A tensor of more than two dimensions is a
// stack of matrices. `scheme` is set where the storage is one that a weight matrix can be read from directly;
// otherwise only `dtype` says what it is (I64...). Codes and the tensor of their scales are one StoredTensor,
// under the name of the codes; its shape counts weights, not bytes (block_scales.h).
struct StoredTensor {
  std::string name;
  Shape shape;
  std::optional<DType> dtype;    // safetensors
  std::optional<Scheme> scheme;  // F32, F16, BF16 of either format, and every GGUF block format
  const std::byte* data = nullptr;
  uint64_t bytes = 0;
  std::shared_ptr<const MappedFile> file;
  std::optional<ScaleView> scales = {};  // of the whole stack; its bytes are counted in `bytes`

  std::string storage_name() const;  // "BF16", "q4_1"
  int64_t elements() const;
};

class WholeNumbers;

class Checkpoint {
 public:
  Checkpoint();
  static Result<Checkpoint> open(const std::string& path);

  const std::string& path() const { return path_; }
  SourceFormat format() const { return format_; }
  bool has_weights() const { return !tensors_.empty(); }

  // Hugging Face: config.json. GGUF: its metadata as one flat object, {"general.architecture": "llama", ...};
  // the tokenizer's big arrays (tokens, token_type, scores, merges) are left out: text_files() has them.
  const Json& config() const { return config_; }

  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // in file order
  const StoredTensor* find(std::string_view name) const;
  // The tensor as a matrix: 1-d -> one row, 2-d as it is, 3-d -> the index-th matrix of the stack. Whole
  // numbers (I32, I64) come as fp32 that hold them exactly.
  Result<MatrixView> matrix(std::string_view name, int64_t stack_index = 0) const;

  // name -> contents, as fettle's text folder and artifacts keep them: tokenizer.json, tokenizer_config.json,
  // generation_config.json, chat_template.jinja, chat_format; only those that exist, and model_type if the
  // model has no chat template. For GGUF they are written from the metadata.
  Result<std::map<std::string, std::string>> text_files() const;

  // The files that hold weights and configuration, for digests.
  const std::vector<std::string>& files() const { return files_; }
  std::vector<std::string> warnings() const { return warnings_; }

 private:
  friend Result<Checkpoint> open_hugging_face(const std::string& directory);
  friend Result<Checkpoint> open_gguf(const std::string& path);

  std::string path_;
  SourceFormat format_ = SourceFormat::kHuggingFace;
  Json config_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
  std::shared_ptr<WholeNumbers> whole_numbers_;
  std::vector<std::string> files_;
  std::vector<std::string> warnings_;
};

// The text files alone: they are of use without a model beside them.
Result<std::map<std::string, std::string>> text_files_of_directory(const std::string& directory);

}  // namespace fettle
