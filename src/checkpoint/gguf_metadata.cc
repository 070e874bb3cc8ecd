#include "checkpoint/gguf_metadata.h"

#include <fmt/core.h>

#include <cmath>
#include <cstdlib>
#include <unordered_set>
#include <utility>

#include "base/show_name.h"

namespace fettle {

Result<const std::byte*> GgufCursor::take(uint64_t bytes, std::string_view field) {
  if (bytes > left())
    return bad_input("{}: {} needs {} bytes at byte {}, {} are left; the file is cut short or damaged", what_,
                     field, bytes, position_, left());
  const std::byte* p = bytes_.data() + position_;
  position_ += bytes;
  return p;
}

Result<std::string_view> GgufCursor::string(std::string_view field) {
  TRY(const uint64_t length, read<uint64_t>(field));
  TRY(const std::byte* p, take(length, field));
  return std::string_view(reinterpret_cast<const char*>(p), length);
}

namespace {

enum GgufType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

constexpr uint64_t kMostPairs = 4096;  // real files have some hundred at most
constexpr uint64_t kMostElements =
    4'000'000;                         // of all arrays kept; a tokenizer of 256k words has about 1.2 million
constexpr size_t kLongestKey = 65535;  // the format's own limit
constexpr int kDeepestArray = 8;

// The shortest decimal that names the float: 1e-6 stays 1e-06, as in the config.json it came from.
double widen(float value) {
  if (!std::isfinite(value)) return value;
  return std::strtod(fmt::format("{}", value).c_str(), nullptr);
}

class ValueReader {
 public:
  explicit ValueReader(GgufCursor& cursor) : cursor_(cursor) {}

  // Reads one value of the type; out == nullptr passes over it.
  Status read(uint32_t type, const std::string& key, Json* out, int depth = 0) {
    switch (type) {
      case kU8:
        return number<uint8_t>(key, out);
      case kI8:
        return number<int8_t>(key, out);
      case kU16:
        return number<uint16_t>(key, out);
      case kI16:
        return number<int16_t>(key, out);
      case kU32:
        return number<uint32_t>(key, out);
      case kI32:
        return number<int32_t>(key, out);
      case kF32:
        return number<float>(key, out);
      case kU64:
        return number<uint64_t>(key, out);
      case kI64:
        return number<int64_t>(key, out);
      case kF64:
        return number<double>(key, out);
      case kBool:
        return boolean(key, out);
      case kString:
        return string(key, out);
      case kArray:
        return array(key, out, depth);
      default:
        return bad_input("{}: metadata {} has type {}; expected 0 to 12", cursor_.what(), show_name(key),
                         type);
    }
  }

 private:
  template <typename T>
  Status number(const std::string& key, Json* out) {
    TRY(const T value, cursor_.read<T>(key));
    if (!out) return {};
    if constexpr (std::is_same_v<T, float>)
      *out = widen(value);
    else
      *out = value;
    return {};
  }

  Status boolean(const std::string& key, Json* out) {
    TRY(const uint8_t value, cursor_.read<uint8_t>(key));
    if (value > 1)
      return bad_input("{}: metadata {} is {}; expected 0 or 1 (a truth value)", cursor_.what(),
                       show_name(key), value);
    if (out) *out = value == 1;
    return {};
  }

  Status string(const std::string& key, Json* out) {
    TRY(const std::string_view value, cursor_.string(key));
    if (out) *out = std::string(value);
    return {};
  }

  Status array(const std::string& key, Json* out, int depth) {
    if (depth >= kDeepestArray)
      return bad_input("{}: metadata {} nests arrays deeper than {} levels", cursor_.what(), show_name(key),
                       kDeepestArray);
    TRY(const uint32_t type, cursor_.read<uint32_t>(key));
    TRY(const uint64_t count, cursor_.read<uint64_t>(key));
    // No element is smaller than a byte, so a longer list is a lie, whatever its type.
    if (count > cursor_.left())
      return bad_input("{}: metadata {} claims {} elements; expected at most the {} bytes that are left",
                       cursor_.what(), show_name(key), count, cursor_.left());
    if (out) {
      elements_ += count;
      if (elements_ > kMostElements)
        return bad_input("{}: metadata {} brings the arrays to {} elements; expected at most {}",
                         cursor_.what(), show_name(key), elements_, kMostElements);
      *out = Json::array();
    }
    for (uint64_t i = 0; i < count; ++i) {
      Json* element = nullptr;
      if (out) element = &out->emplace_back();
      TRY_STATUS(read(type, key, element, depth + 1));
    }
    return {};
  }

  GgufCursor& cursor_;
  uint64_t elements_ = 0;
};

Status take_strings(Json&& list, const std::string& place, std::vector<std::string>* out) {
  if (!list.is_array()) return bad_input("{} is not a list of strings", place);
  out->reserve(list.size());
  for (Json& element : list) {
    if (!element.is_string()) return bad_input("{} holds something that is not a string", place);
    out->push_back(std::move(element.get_ref<std::string&>()));
  }
  return {};
}

Status take_types(Json&& list, const std::string& place, std::vector<int32_t>* out) {
  if (!list.is_array()) return bad_input("{} is not a list of whole numbers", place);
  out->reserve(list.size());
  for (const Json& element : list) {
    if (!element.is_number_integer() || element > INT32_MAX || element < INT32_MIN)
      return bad_input("{} holds {}; expected small whole numbers", place, dump_json(element, -1));
    out->push_back(element.get<int32_t>());
  }
  return {};
}

// The fields of the tokenizer that are no big arrays.
Status read_tokenizer_fields(const Json& metadata, const std::string& what, GgufTokenizer* tokenizer) {
  const JsonReader reader(metadata, what);
  TRY(tokenizer->model, reader.string_or("tokenizer.ggml.model", ""));
  TRY(tokenizer->pre, reader.string_or("tokenizer.ggml.pre", ""));
  TRY(tokenizer->chat_template, reader.string_or("tokenizer.chat_template", ""));
  const std::pair<const char*, std::optional<int64_t>*> ids[] = {
      {"tokenizer.ggml.bos_token_id", &tokenizer->bos},
      {"tokenizer.ggml.eos_token_id", &tokenizer->eos},
      {"tokenizer.ggml.padding_token_id", &tokenizer->pad},
      {"tokenizer.ggml.unknown_token_id", &tokenizer->unknown},
  };
  for (const auto& [field, id] : ids)
    if (reader.has(field)) {
      TRY(*id, reader.integer(field));
    }
  const std::pair<const char*, std::optional<bool>*> flags[] = {
      {"tokenizer.ggml.add_bos_token", &tokenizer->add_bos},
      {"tokenizer.ggml.add_eos_token", &tokenizer->add_eos},
  };
  for (const auto& [field, flag] : flags)
    if (reader.has(field)) {
      TRY(*flag, reader.boolean(field));
    }
  return {};
}

}  // namespace

Result<Json> read_gguf_metadata(GgufCursor& cursor, uint64_t count, GgufTokenizer* tokenizer) {
  if (count > kMostPairs)
    return bad_input("{}: {} metadata fields claimed; expected at most {}", cursor.what(), count, kMostPairs);
  Json metadata = Json::object();
  std::unordered_set<std::string_view> seen;
  ValueReader values(cursor);
  for (uint64_t i = 0; i < count; ++i) {
    TRY(const std::string_view name, cursor.string("the name of a metadata field"));
    if (name.empty() || name.size() > kLongestKey)
      return bad_input("{}: metadata field {} has a name of {} bytes; expected 1 to {}", cursor.what(), i,
                       name.size(), kLongestKey);
    if (!seen.insert(name).second)
      return bad_input("{}: metadata {} occurs twice; expected once", cursor.what(), show_name(name));
    TRY(const uint32_t type, cursor.read<uint32_t>("the type of a metadata field"));
    const std::string key(name);
    const bool tokens = key == "tokenizer.ggml.tokens", merges = key == "tokenizer.ggml.merges",
               types = key == "tokenizer.ggml.token_type", scores = key == "tokenizer.ggml.scores";
    const bool big = tokens || merges || types || scores;
    const bool keep = !big || (tokenizer && !scores);
    Json value;
    TRY_STATUS(values.read(type, key, keep ? &value : nullptr));
    if (!big) {
      metadata.push_back({key, std::move(value)});
      continue;
    }
    if (!keep) continue;
    const std::string place = fmt::format("{}: metadata '{}'", cursor.what(), key);
    if (types) {
      TRY_STATUS(take_types(std::move(value), place, &tokenizer->token_type));
    } else {
      TRY_STATUS(take_strings(std::move(value), place, tokens ? &tokenizer->tokens : &tokenizer->merges));
    }
  }
  if (tokenizer) TRY_STATUS(read_tokenizer_fields(metadata, cursor.what(), tokenizer));
  return metadata;
}

}  // namespace fettle
