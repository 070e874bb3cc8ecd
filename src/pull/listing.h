// What a source offers, and which of it to take. Names come from servers and archives: each is checked here
// before it touches the disk, and a listing with one bad name or size is refused whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace fettle {

struct RemoteFile {
  std::string name;  // relative path in the model's folder
  std::string url;
  std::optional<uint64_t> size;  // unknown for plain addresses
  std::string sha256;            // empty where the source publishes none
};

struct Listing {
  std::string revision;
  std::vector<RemoteFile> files;
};

inline constexpr std::string_view kOwnFilePrefix = "fettle-pull";  // no model file may be called so
inline constexpr std::string_view kPartSuffix = ".part";
inline constexpr uint64_t kMaxFileBytes = uint64_t{1} << 46;  // times kMaxFiles still fits in 64 bits
inline constexpr size_t kMaxFiles = 100000;

std::string shown_name(std::string_view name);  // for messages: quoted, escaped, cut
Status check_remote_name(std::string_view name, const std::string& where);
// Every name, every size, no name twice, a bounded number.
Status check_listing(const Listing& listing, const std::string& where);

bool is_sha256(std::string_view text);
bool matches_any(const std::string& name, const std::vector<std::string>& patterns);
std::string lower_case(std::string_view text);

// Of weights that exist in several forms one is taken. When an index names the weights, it is fetched first
// with `now`, and files_of_index() tells the rest.
struct Selection {
  std::vector<RemoteFile> now;
  std::string index;  // name of the *.safetensors.index.json in `now` that decides about weights; or empty
};
Result<Selection> select_files(const Listing& listing, const std::vector<std::string>& include,
                               const std::string& where);
Result<std::vector<RemoteFile>> files_of_index(const Listing& listing, const Json& index,
                                               const std::string& where);

// "dir/m-00002-of-00003.gguf" -> "dir/m.gguf": the parts of one model share it.
std::string without_shard_number(const std::string& name);

// What a caller opens: the GGUF (its first part) if that is the only model there, else the folder of
// config.json.
std::string model_file_or_folder(const std::vector<std::string>& names);

}  // namespace fettle
