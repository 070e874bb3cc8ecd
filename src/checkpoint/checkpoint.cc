#include "checkpoint/checkpoint.h"

#include <cstring>

#include "base/show_name.h"
#include "checkpoint/gguf.h"
#include "checkpoint/hugging_face.h"
#include "checkpoint/tensor_index.h"
#include "checkpoint/whole_numbers.h"

namespace fettle {

namespace {

constexpr const char* kTextFiles[] = {"tokenizer.json", "tokenizer_config.json", "generation_config.json",
                                      "chat_template.jinja", "chat_format"};
constexpr uint64_t kLargestTextFile = uint64_t{256} << 20;

bool has_chat_template(const std::map<std::string, std::string>& files) {
  const auto config = files.find("tokenizer_config.json");
  return files.contains("chat_template.jinja") || files.contains("chat_format") ||
         (config != files.end() && config->second.find("\"chat_template\"") != std::string::npos);
}

// Which of the matrices of a tensor is meant, as rows x cols at an offset.
struct Placement {
  int64_t rows, cols, count;
};
std::optional<Placement> matrices_of(const Shape& shape) {
  switch (shape.size()) {
    case 0:
      return Placement{1, 1, 1};
    case 1:
      return Placement{1, shape[0], 1};
    case 2:
      return Placement{shape[0], shape[1], 1};
    case 3:
      return Placement{shape[1], shape[2], shape[0]};
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<std::map<std::string, std::string>> text_files_of_directory(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const char* name : kTextFiles) {
    const std::string path = join_path(directory, name);
    if (!path_exists(path)) continue;
    TRY(files[name], read_file(path, kLargestTextFile));
  }
  return files;
}

std::string StoredTensor::storage_name() const {
  if (dtype && !scales) return std::string(dtype_name(*dtype));
  return scheme ? std::string(scheme_name(*scheme)) : "unknown";
}

int64_t StoredTensor::elements() const { return element_count(shape).value_or(0); }

Result<std::unordered_map<std::string, size_t>> index_tensors(const std::vector<StoredTensor>& tensors,
                                                              const std::string& what) {
  std::unordered_map<std::string, size_t> index;
  index.reserve(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i)
    if (!index.emplace(tensors[i].name, i).second)
      return bad_input("{}: tensor {} is stored twice ({} and {}); expected once", what,
                       show_name(tensors[i].name), tensors[index[tensors[i].name]].file->path(),
                       tensors[i].file->path());
  return index;
}

Checkpoint::Checkpoint() : whole_numbers_(std::make_shared<WholeNumbers>()) {}

Result<Checkpoint> Checkpoint::open(const std::string& path) {
  if (is_directory(path)) return open_hugging_face(path);
  TRY(const auto file, MappedFile::open(path));
  const auto bytes = file->bytes();
  if (bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0) return open_gguf(path);
  return bad_input(
      "{}: not a GGUF file; expected one, or the directory that holds config.json and the safetensors files",
      path);
}

const StoredTensor* Checkpoint::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

Result<MatrixView> Checkpoint::matrix(std::string_view name, int64_t stack_index) const {
  const StoredTensor* tensor = find(name);
  if (!tensor) return bad_input("{}: tensor {} is missing", path_, show_name(name));
  const std::string place = fmt::format("{}: tensor {}", path_, show_name(name));
  if (holds_whole_numbers(*tensor)) return whole_numbers_->matrix(*tensor, place);
  if (!tensor->scheme)
    return unsupported(
        "{}: stored as {}; expected numbers that stand for themselves (F32, F16, BF16), a block format, or "
        "F8_E4M3 with block scales",
        place, tensor->storage_name());
  const std::optional<Placement> placement = matrices_of(tensor->shape);
  if (!placement || tensor->elements() == 0)
    return unsupported("{}: shape {}; expected one to three dimensions, none of them zero", place,
                       shape_text(tensor->shape));
  const auto [rows, cols, count] = *placement;
  if (stack_index < 0 || stack_index >= count)
    return bad_input("{}: matrix {} of the stack was asked for; shape {} has {}", place, stack_index,
                     shape_text(tensor->shape), count);
  MatrixView view{
      .scheme = *tensor->scheme, .rows = rows, .cols = cols, .data = tensor->data, .owner = tensor->file};
  if (!tensor->scales) {
    view.data += stack_index * view.bytes();
    return view;
  }
  view.data += stack_index * rows * view.code_stride();
  view.scales = tensor->scales;
  const int64_t scales = *element_count(scales_shape(view.scheme, rows, cols));
  view.scales->data += stack_index * scales * dtype_bits(view.scales->dtype) / 8;
  return view;
}

Result<std::map<std::string, std::string>> Checkpoint::text_files() const {
  const bool gguf = format_ == SourceFormat::kGguf;
  TRY(auto files, gguf ? gguf_text_files(files_.front()) : text_files_of_directory(path_));
  if (files.empty() || has_chat_template(files)) return files;
  // Without a template, what the model is decides how one talks to it.
  const auto type = config_.find(gguf ? "general.architecture" : "model_type");
  if (type != config_.end() && type->is_string()) files["model_type"] = type->get<std::string>();
  return files;
}

}  // namespace fettle
