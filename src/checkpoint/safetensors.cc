#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "base/json_stream.h"
#include "base/show_name.h"

namespace fettle {

namespace {

constexpr uint64_t kLongestHeader = 100'000'000;  // the format's reference reader refuses more
constexpr std::string_view kMetadata = "__metadata__";

// An entry while its fields arrive; begin and end count from the start of the data.
struct Draft {
  std::string name;
  std::optional<DType> dtype;
  std::optional<Shape> shape;
  std::optional<std::vector<uint64_t>> range;
};

class HeaderReader : public JsonVisitor {
 public:
  explicit HeaderReader(const std::string& what) : what_(what) {}
  std::vector<Draft> take() { return std::move(drafts_); }

  Status opened(JsonKeys keys, bool array) override {
    if (keys.empty()) return array ? wrong_header("a list") : Status();
    if (keys.size() == 1) {
      if (array) return wrong(keys[0], "is a list; expected an object");
      if (keys[0] != kMetadata) drafts_.emplace_back().name = keys[0];
      return {};
    }
    if (keys.size() == 2 && keys[0] != kMetadata && array) {
      Draft& draft = drafts_.back();
      if (keys[1] == "shape" && !draft.shape) {
        draft.shape.emplace();
        return {};
      }
      if (keys[1] == "data_offsets" && !draft.range) {
        draft.range.emplace();
        return {};
      }
    }
    return wrong(keys[0], fmt::format("field {} holds a list or object that does not belong there",
                                      show_name(keys.back())));
  }

  Status scalar(JsonKeys keys, const JsonScalar& value) override {
    if (keys.empty()) return wrong_header("a single value");
    if (keys.size() != 2) return wrong(keys[0], "is not an object; expected dtype, shape and data_offsets");
    const std::string_view* text = std::get_if<std::string_view>(&value);
    const uint64_t* number = std::get_if<uint64_t>(&value);
    if (keys[0] == kMetadata)
      return text ? Status() : wrong(keys[0], fmt::format("field {} is not a string", show_name(keys[1])));
    Draft& draft = drafts_.back();
    if (keys[1] == "dtype") {
      if (!text) return wrong(keys[0], "dtype is not a string");
      draft.dtype = parse_dtype(*text);
      if (draft.dtype) return {};
      return unsupported("{}: tensor {}: dtype is {}; expected a safetensors dtype such as BF16 or F8_E4M3",
                         what_, show_name(keys[0]), show_name(*text));
    }
    if (keys[1] == "shape" && draft.shape) {
      if (!number || *number > static_cast<uint64_t>(INT64_MAX))
        return wrong(keys[0], "shape holds something that is not a whole number in range");
      draft.shape->push_back(static_cast<int64_t>(*number));
      return {};
    }
    if (keys[1] == "data_offsets" && draft.range) {
      if (!number || draft.range->size() == 2)
        return wrong(keys[0], "data_offsets is not a list of two whole numbers");
      draft.range->push_back(*number);
      return {};
    }
    return wrong(keys[0], fmt::format("field {} is not one of dtype, shape, data_offsets of the right kind",
                                      show_name(keys[1])));
  }

 private:
  Error wrong(const std::string& name, const std::string& fault) const {
    return bad_input("{}: tensor {}: {}; the file is damaged, fetch it again", what_, show_name(name), fault);
  }
  Error wrong_header(std::string_view found) const {
    return bad_input("{}: the header is {}; expected an object of tensors", what_, found);
  }

  const std::string& what_;
  std::vector<Draft> drafts_;
};

// The draft as an entry: complete, inside the data, and of the size that its shape and dtype ask for.
Result<SafetensorsEntry> check_entry(Draft&& draft, uint64_t data_start, uint64_t data_bytes,
                                     const std::string& what) {
  const std::string place = fmt::format("{}: tensor {}", what, show_name(draft.name));
  if (!draft.dtype || !draft.shape || !draft.range || draft.range->size() != 2)
    return bad_input("{}: dtype, shape or the two data_offsets are missing", place);
  const uint64_t begin = (*draft.range)[0], end = (*draft.range)[1];
  if (begin > end || end > data_bytes)
    return bad_input("{}: data_offsets are [{}, {}]; expected an ascending range within the {} bytes of data",
                     place, begin, end, data_bytes);
  const std::optional<int64_t> count = element_count(*draft.shape);
  const unsigned bits = static_cast<unsigned>(dtype_bits(*draft.dtype));
  const unsigned __int128 needed_bits = static_cast<unsigned __int128>(count.value_or(0)) * bits;
  if (!count || needed_bits != static_cast<unsigned __int128>(end - begin) * 8)
    return bad_input("{}: {} bytes stored; shape {} of {} needs {}", place, end - begin,
                     shape_text(*draft.shape), dtype_name(*draft.dtype),
                     !count                 ? "more than fits a file"
                     : needed_bits % 8 != 0 ? "a fraction of a byte"
                                            : fmt::format("{}", static_cast<uint64_t>(needed_bits / 8)));
  return SafetensorsEntry{std::move(draft.name), *draft.dtype, *std::move(draft.shape), data_start + begin,
                          end - begin};
}

// Entries in the order of their bytes must follow each other without hole or overlap up to the end of the
// file.
Status check_coverage(const std::vector<SafetensorsEntry>& entries, uint64_t data_start, uint64_t file_bytes,
                      const std::string& what) {
  uint64_t expected = data_start;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset != expected)
      return bad_input(
          "{}: tensor {} begins at byte {} of the data; expected {} ({} with the tensor before it)", what,
          show_name(entry.name), entry.offset - data_start, expected - data_start,
          entry.offset < expected ? "it overlaps" : "it leaves a hole");
    expected = entry.offset + entry.bytes;
  }
  if (expected != file_bytes)
    return bad_input("{}: {} bytes behind the last tensor; expected none", what, file_bytes - expected);
  return {};
}

}  // namespace

Result<std::vector<SafetensorsEntry>> parse_safetensors(std::span<const std::byte> file,
                                                        const std::string& what) {
  uint64_t header_bytes = 0;
  if (file.size() < sizeof header_bytes)
    return bad_input("{}: {} bytes; expected at least 8 (the header's length)", what, file.size());
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  if (header_bytes > kLongestHeader || header_bytes > file.size() - sizeof header_bytes)
    return bad_input(
        "{}: the header claims {} bytes; expected at most {} here: not a safetensors file, or cut short",
        what, header_bytes, std::min<uint64_t>(kLongestHeader, file.size() - sizeof header_bytes));
  const uint64_t data_start = sizeof header_bytes + header_bytes;
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + sizeof header_bytes, header_bytes);
  if (!text.starts_with('{'))
    return bad_input("{}: the header does not begin with '{{': not a safetensors file", what);

  HeaderReader reader(what);
  TRY_STATUS(stream_json(text, what, reader));
  std::vector<SafetensorsEntry> entries;
  for (Draft& draft : reader.take()) {
    TRY(SafetensorsEntry entry, check_entry(std::move(draft), data_start, file.size() - data_start, what));
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  TRY_STATUS(check_coverage(entries, data_start, file.size(), what));
  return entries;
}

namespace {

std::optional<Scheme> scheme_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return Scheme::kF32;
    case DType::kF16:
      return Scheme::kF16;
    case DType::kBF16:
      return Scheme::kBF16;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<std::vector<StoredTensor>> read_safetensors(const std::string& path) {
  TRY(auto file, MappedFile::open(path));
  TRY(auto entries, parse_safetensors(file->bytes(), path));
  std::vector<StoredTensor> tensors;
  tensors.reserve(entries.size());
  for (SafetensorsEntry& entry : entries)
    tensors.push_back({.name = std::move(entry.name),
                       .shape = std::move(entry.shape),
                       .dtype = entry.dtype,
                       .scheme = scheme_of(entry.dtype),
                       .data = file->bytes().data() + entry.offset,
                       .bytes = entry.bytes,
                       .file = file});
  return tensors;
}

}  // namespace fettle
