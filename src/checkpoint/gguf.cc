#include "checkpoint/gguf.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <optional>

#include "base/show_name.h"
#include "checkpoint/gguf_metadata.h"

namespace fettle {

static_assert(std::endian::native == std::endian::little, "GGUF fields are little-endian and read in place");

namespace {

// Every storage type that GGUF files have, by its number; those without scheme and type are known by name
// only.
struct StorageType {
  uint32_t id;
  std::string_view name;
  std::optional<Scheme> scheme;
  std::optional<DType> dtype = std::nullopt;
};
constexpr StorageType kStorageTypes[] = {
    {0, "F32", Scheme::kF32},
    {1, "F16", Scheme::kF16},
    {2, "Q4_0", Scheme::kQ4_0},
    {3, "Q4_1", Scheme::kQ4_1},
    {6, "Q5_0", Scheme::kQ5_0},
    {7, "Q5_1", Scheme::kQ5_1},
    {8, "Q8_0", Scheme::kQ8_0},
    {9, "Q8_1", std::nullopt},
    {10, "Q2_K", Scheme::kQ2_K},
    {11, "Q3_K", Scheme::kQ3_K},
    {12, "Q4_K", Scheme::kQ4_K},
    {13, "Q5_K", Scheme::kQ5_K},
    {14, "Q6_K", Scheme::kQ6_K},
    {15, "Q8_K", std::nullopt},
    {16, "IQ2_XXS", std::nullopt},
    {17, "IQ2_XS", std::nullopt},
    {18, "IQ3_XXS", std::nullopt},
    {19, "IQ1_S", std::nullopt},
    {20, "IQ4_NL", Scheme::kIQ4_NL},
    {21, "IQ3_S", std::nullopt},
    {22, "IQ2_S", std::nullopt},
    {23, "IQ4_XS", std::nullopt},
    {24, "I8", std::nullopt},
    {25, "I16", std::nullopt},
    {26, "I32", std::nullopt, DType::kI32},
    {27, "I64", std::nullopt, DType::kI64},
    {28, "F64", std::nullopt},
    {29, "IQ1_M", std::nullopt},
    {30, "BF16", Scheme::kBF16},
    {34, "TQ1_0", std::nullopt},
    {35, "TQ2_0", std::nullopt},
    {39, "MXFP4", Scheme::kMXFP4},
    {40, "NVFP4", std::nullopt},
};

constexpr uint32_t kMostDimensions = 4;
constexpr size_t kLongestTensorName = 255;  // the format asks for 64; a little more does no harm
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kSmallestTensorInfo = 8 + 4 + 4 + 8;

Result<StorageType> storage_type(uint32_t id, const std::string& place) {
  const auto* type = std::find_if(std::begin(kStorageTypes), std::end(kStorageTypes),
                                  [id](const StorageType& t) { return t.id == id; });
  const bool known = type != std::end(kStorageTypes);
  if (known && (type->scheme || type->dtype)) return *type;
  return unsupported(
      "{}: stored as GGUF type {} ({}); expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, "
      "IQ4_NL or MXFP4: "
      "convert the file to one of these",
      place, id, known ? type->name : "unknown");
}

// Bytes of the whole tensor; refuses what overflows or does not divide into blocks.
Result<uint64_t> stored_bytes(const Shape& shape, const StorageType& type, const std::string& place) {
  const int block = type.scheme ? scheme_info(*type.scheme).block_elems : 1,
            block_bytes = type.scheme ? scheme_info(*type.scheme).block_bytes : dtype_bits(*type.dtype) / 8;
  const std::optional<int64_t> count = element_count(shape);
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (!count || *count == 0 || row % block != 0)
    return bad_input(
        "{}: shape {}; expected dimensions above zero and rows of a multiple of {} elements ({})", place,
        shape_text(shape), block, type.name);
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(*count / block), static_cast<uint64_t>(block_bytes),
                             &bytes))
    return bad_input("{}: shape {} is more than fits a file", place, shape_text(shape));
  return bytes;
}

// One description; its offset still counts from the start of the data.
Result<GgufTensor> read_tensor_info(GgufCursor& cursor) {
  TRY(const std::string_view name, cursor.string("the name of a tensor"));
  const std::string place = fmt::format("{}: tensor {}", cursor.what(), show_name(name));
  if (name.empty() || name.size() > kLongestTensorName)
    return bad_input("{}: a name of {} bytes; expected 1 to {}", place, name.size(), kLongestTensorName);
  TRY(const uint32_t dimensions, cursor.read<uint32_t>(place));
  if (dimensions > kMostDimensions)
    return bad_input("{}: {} dimensions; expected at most {}", place, dimensions, kMostDimensions);
  GgufTensor tensor;
  tensor.name = name;
  for (uint32_t d = 0; d < dimensions; ++d) {
    TRY(const uint64_t size, cursor.read<uint64_t>(place));
    if (size > static_cast<uint64_t>(INT64_MAX)) return bad_input("{}: dimension {} is {}", place, d, size);
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
  TRY(const uint32_t type, cursor.read<uint32_t>(place));
  TRY(tensor.offset, cursor.read<uint64_t>(place));
  TRY(const StorageType storage, storage_type(type, place));
  tensor.scheme = storage.scheme;
  tensor.dtype = storage.dtype;
  TRY(tensor.bytes, stored_bytes(tensor.shape, storage, place));
  return tensor;
}

uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Tensors must lie one after the other, each at the next multiple of the alignment, inside the file. Sorts by
// place, and turns offsets into positions in the file.
Status place_tensors(std::vector<GgufTensor>* tensors, uint64_t data_start, uint64_t file_bytes,
                     uint64_t alignment, const std::string& what) {
  std::stable_sort(tensors->begin(), tensors->end(),
                   [](const GgufTensor& a, const GgufTensor& b) { return a.offset < b.offset; });
  if (tensors->empty()) return {};
  if (data_start > file_bytes)
    return bad_input("{}: {} bytes; the tensors begin at byte {}: the file is cut short", what, file_bytes,
                     data_start);
  uint64_t expected = 0;
  for (GgufTensor& tensor : *tensors) {
    if (tensor.offset != expected)
      return bad_input(
          "{}: tensor {} begins at byte {} of the data; expected {} ({} with the tensor before it)", what,
          show_name(tensor.name), tensor.offset, expected,
          tensor.offset < expected ? "it overlaps" : "it leaves a hole");
    const uint64_t room = file_bytes - data_start;
    if (tensor.offset > room || tensor.bytes > room - tensor.offset)
      return bad_input(
          "{}: tensor {} needs {} bytes at byte {} of the data, which has {}; the file is cut short", what,
          show_name(tensor.name), tensor.bytes, tensor.offset, room);
    expected = align_up(tensor.offset + tensor.bytes, alignment);
    tensor.offset += data_start;
  }
  return {};
}

Status check_magic_and_version(GgufCursor& cursor) {
  TRY(const uint32_t magic, cursor.read<uint32_t>("the magic number"));
  if (magic != 0x46554747u)
    return bad_input("{}: begins with {:#010x}; expected \"GGUF\"", cursor.what(), magic);
  TRY(const uint32_t version, cursor.read<uint32_t>("the version"));
  if (version == 2 || version == 3) return {};
  if ((version & 0xffffu) == 0 && version != 0)
    return unsupported("{}: a big-endian GGUF file; convert it to little-endian", cursor.what());
  return unsupported("{}: GGUF version {}; expected 2 or 3: convert the file with a current converter",
                     cursor.what(), version);
}

Result<uint64_t> alignment_of(const Json& metadata, const std::string& what) {
  TRY(const int64_t alignment, JsonReader(metadata, what).integer_or("general.alignment", kDefaultAlignment));
  if (alignment <= 0 || alignment % 8 != 0 || alignment > UINT32_MAX)
    return bad_input("{}: field 'general.alignment' is {}; expected a multiple of 8", what, alignment);
  return static_cast<uint64_t>(alignment);
}

}  // namespace

Result<GgufFile> parse_gguf(std::span<const std::byte> file, const std::string& what,
                            GgufTokenizer* tokenizer) {
  GgufCursor cursor(file, what);
  TRY_STATUS(check_magic_and_version(cursor));
  TRY(const uint64_t tensor_count, cursor.read<uint64_t>("the number of tensors"));
  TRY(const uint64_t pair_count, cursor.read<uint64_t>("the number of metadata fields"));
  GgufFile out;
  TRY(out.metadata, read_gguf_metadata(cursor, pair_count, tokenizer));
  TRY(const uint64_t alignment, alignment_of(out.metadata, what));
  if (tensor_count > cursor.left() / kSmallestTensorInfo)
    return bad_input("{}: {} tensors claimed; the {} bytes that are left can describe at most {}", what,
                     tensor_count, cursor.left(), cursor.left() / kSmallestTensorInfo);
  for (uint64_t i = 0; i < tensor_count; ++i) {
    TRY(GgufTensor tensor, read_tensor_info(cursor));
    out.tensors.push_back(std::move(tensor));
  }
  TRY_STATUS(
      place_tensors(&out.tensors, align_up(cursor.position(), alignment), file.size(), alignment, what));
  return out;
}

}  // namespace fettle
