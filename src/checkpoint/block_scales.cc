#include "checkpoint/block_scales.h"

#include "base/show_name.h"

namespace fettle {

namespace {

constexpr std::string_view kWeight = ".weight";
constexpr const char* kBlockSizeField = "quantization_config.weight_block_size";

// The configuration's blocks are those of kF8B128.
Status check_block_size(const Json& config, const std::string& config_path, const std::string& tensor) {
  const Json* size = nullptr;
  if (const auto quantization = config.find("quantization_config");
      quantization != config.end() && quantization->is_object()) {
    const auto found = quantization->find("weight_block_size");
    if (found != quantization->end() && !found->is_null()) size = &*found;
  }
  if (size && *size == Json({kF8Block, kF8Block})) return {};
  return unsupported("{}: field {} is {}; expected [{}, {}], the blocks of tensor {}", config_path,
                     kBlockSizeField, size ? show_name(size->dump()) : "missing", kF8Block, kF8Block,
                     show_name(tensor));
}

class Joiner {
 public:
  Joiner(const Json& config, const std::string& config_path,
         const std::unordered_map<std::string, size_t>& index, std::vector<StoredTensor>* tensors)
      : config_(config),
        config_path_(config_path),
        index_(index),
        tensors_(*tensors),
        consumed_(tensors->size(), false) {}

  Result<bool> run() {
    for (StoredTensor& tensor : tensors_) {
      if (tensor.dtype == DType::kF8E4M3) TRY_STATUS(join_f8(tensor));
      if (tensor.dtype == DType::kI8) TRY_STATUS(join_fp4(tensor));
    }
    std::vector<StoredTensor> kept;
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (!consumed_[i]) kept.push_back(std::move(tensors_[i]));
    const bool any = kept.size() < tensors_.size();
    tensors_ = std::move(kept);
    return any;
  }

 private:
  // "X" of "X.weight"; empty for other names.
  static std::string_view stem(const StoredTensor& tensor) {
    std::string_view name = tensor.name;
    if (!name.ends_with(kWeight)) return {};
    name.remove_suffix(kWeight.size());
    return name;
  }

  const StoredTensor* find(const std::string& name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
  }

  std::string place(const StoredTensor& tensor) const {
    return fmt::format("{}: tensor {}", tensor.file->path(), show_name(tensor.name));
  }

  Status join_f8(StoredTensor& tensor) {
    const std::string_view x = stem(tensor);
    const std::string inverse = tensor.name + "_scale_inv", plain = std::string(x) + ".scale";
    const StoredTensor *scales = find(inverse), *other = x.empty() ? nullptr : find(plain);
    if (scales && other)
      return bad_input("{}: has two tensors of scales, {} and {}; expected one", place(tensor),
                       show_name(inverse), show_name(plain));
    if (!scales) scales = other;
    if (!scales && x.empty()) return {};  // not a weight by its name: nothing says how it is coded
    if (!scales)
      return unsupported(
          "{}: stored as F8_E4M3 {} without block scales; expected a tensor {} or {} beside it",
          place(tensor), shape_text(tensor.shape), show_name(inverse), show_name(plain));
    const bool typed =
        scales->dtype == DType::kF32 || scales->dtype == (scales == other ? DType::kF8E8M0 : DType::kBF16);
    if (!typed)
      return bad_input("{}: scales of type {}; expected F32 or {}", place(*scales), scales->storage_name(),
                       scales == other ? "F8_E8M0" : "BF16");
    TRY_STATUS(check_block_size(config_, config_path_, tensor.name));
    return join(tensor, *scales, Scheme::kF8B128, tensor.shape);
  }

  Status join_fp4(StoredTensor& tensor) {
    const std::string_view x = stem(tensor);
    const StoredTensor* scales = x.empty() ? nullptr : find(std::string(x) + ".scale");
    if (!scales || scales->dtype != DType::kF8E8M0) return {};  // whole numbers of some other meaning
    Shape shape = tensor.shape;
    if (!shape.empty() && __builtin_mul_overflow(shape.back(), 2, &shape.back()))
      return bad_input("{}: shape {}; expected two codes a byte to fit 63 bits", place(tensor),
                       shape_text(tensor.shape));
    if (!shape.empty() && !row_fits(Scheme::kMXFP4, shape.back()))
      return bad_input("{}: shape {} of two codes a byte; expected rows of a multiple of 16 bytes",
                       place(tensor), shape_text(tensor.shape));
    return join(tensor, *scales, Scheme::kMXFP4, shape);
  }

  Status join(StoredTensor& tensor, const StoredTensor& scales, Scheme scheme, const Shape& shape) {
    if (shape.size() < 2 || shape.size() > 3 || tensor.elements() == 0)
      return bad_input("{}: shape {}; expected a matrix or a stack of matrices, no dimension zero",
                       place(tensor), shape_text(tensor.shape));
    Shape expected = scales_shape(scheme, shape[shape.size() - 2], shape.back());
    if (shape.size() == 3) expected.insert(expected.begin(), shape[0]);
    if (scales.shape != expected)
      return bad_input("{}: shape {}; expected {}, the scales of {} {} in {}", place(scales),
                       shape_text(scales.shape), shape_text(expected), show_name(tensor.name),
                       shape_text(shape), tensor.file->path());
    tensor.shape = shape;
    tensor.scheme = scheme;
    tensor.bytes += scales.bytes;
    tensor.scales = {*scales.dtype, expected.back(), scales.data, scales.file};
    consumed_[static_cast<size_t>(&scales - tensors_.data())] = true;
    return {};
  }

  const Json& config_;
  const std::string& config_path_;
  const std::unordered_map<std::string, size_t>& index_;
  std::vector<StoredTensor>& tensors_;
  std::vector<bool> consumed_;
};

}  // namespace

Result<bool> join_block_scales(const Json& config, const std::string& config_path,
                               const std::unordered_map<std::string, size_t>& index,
                               std::vector<StoredTensor>* tensors) {
  return Joiner(config, config_path, index, tensors).run();
}

}  // namespace fettle
