#include "pull/listing.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/file.h"
#include "base/progress.h"

namespace fettle {

namespace {

constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxSegmentBytes = 200;  // leaves room for our suffixes below the usual 255
constexpr std::string_view kSafetensors = ".safetensors";
constexpr std::string_view kSafetensorsIndex = ".safetensors.index.json";
constexpr std::string_view kGguf = ".gguf";

const char* fault_of_segment(std::string_view segment) {
  if (segment.empty()) return "has an empty part";
  if (segment == "." || segment == "..") return "leaves its folder";
  if (segment.size() > kMaxSegmentBytes) return "is too long";
  if (segment.ends_with(kPartSuffix)) return "ends in .part, which marks unfinished files";
  return nullptr;
}

const char* fault_of_name(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name.size() > kMaxNameBytes) return "is too long";
  if (name.starts_with(kOwnFilePrefix)) return "is reserved";
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return "has a control character";
    if (c == '\\') return "has a backslash";
  }
  if (name.front() == '/') return "is absolute";
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    if (const char* fault = fault_of_segment(name.substr(at, end - at))) return fault;
    at = end + 1;
  }
  return nullptr;
}

bool in_root(const std::string& name) { return name.find('/') == std::string::npos; }

// Beside the weights at the top of a repository. Code, pictures, other frameworks' weights and training state
// are not for us.
bool is_companion(const std::string& name) {
  static const std::vector<std::string> kWanted = {"*.json",     "*.jinja",   "*.model",  "*.tiktoken",
                                                   "merges.txt", "vocab.txt", "LICENSE*", "NOTICE*"};
  static const std::vector<std::string> kUnwanted = {"*.index.json",       "trainer_state.json",
                                                     "training_args.json", "all_results.json",
                                                     "train_results.json", "eval_results.json"};
  return in_root(name) && matches_any(name, kWanted) && !matches_any(name, kUnwanted);
}

std::string names_with_sizes(const std::vector<const RemoteFile*>& files) {
  std::string out;
  for (size_t i = 0; i < files.size() && i < 16; ++i) {
    out += fmt::format("\n  {}", files[i]->name);
    if (files[i]->size) out += fmt::format("  {}", format_bytes(*files[i]->size));
  }
  if (files.size() > 16) out += fmt::format("\n  and {} more", files.size() - 16);
  return out;
}

Result<Selection> select_gguf(const std::vector<const RemoteFile*>& ggufs, const std::string& where) {
  std::set<std::string> models;
  for (const RemoteFile* file : ggufs) models.insert(without_shard_number(file->name));
  if (models.size() > 1)
    return make_error(Code::kUsage,
                      "{}: {} GGUF models and no safetensors; expected one; name it with an include "
                      "pattern such as '*Q4_K_M*':{}",
                      where, models.size(), names_with_sizes(ggufs));
  Selection selection;
  for (const RemoteFile* file : ggufs) selection.now.push_back(*file);
  return selection;
}

// A repository may hold the same weights twice (consolidated.safetensors beside model-*.safetensors, other
// precisions).
std::string choose_index(const std::vector<const RemoteFile*>& indices) {
  for (const RemoteFile* file : indices)
    if (file->name == "model.safetensors.index.json") return file->name;
  return indices.size() == 1 ? indices[0]->name : "";
}

}  // namespace

Status check_remote_name(std::string_view name, const std::string& where) {
  if (const char* fault = fault_of_name(name))
    return bad_input("{}: the file name {} {}; expected a relative path; nothing was written under it", where,
                     shown_name(name), fault);
  return {};
}

Status check_listing(const Listing& listing, const std::string& where) {
  if (listing.files.size() > kMaxFiles)
    return bad_input("{}: lists {} files; expected at most {}", where, listing.files.size(), kMaxFiles);
  std::set<std::string> names;
  for (const RemoteFile& file : listing.files) {
    TRY_STATUS(check_remote_name(file.name, where));
    if (!names.insert(file.name).second) return bad_input("{}: lists {} twice", where, shown_name(file.name));
    if (file.size && *file.size > kMaxFileBytes)
      return bad_input("{}: {} has {} bytes; expected at most {}", where, shown_name(file.name), *file.size,
                       kMaxFileBytes);
    if (!file.sha256.empty() && !is_sha256(file.sha256))
      return bad_input("{}: {} has the digest {}; expected 64 hexadecimal digits", where,
                       shown_name(file.name), shown_name(file.sha256));
  }
  return {};
}

std::string shown_name(std::string_view name) {
  return dump_json(Json(std::string(name.substr(0, 120))), -1);
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

bool matches_any(const std::string& name, const std::vector<std::string>& patterns) {
  const std::string base = base_name(name);
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0 ||
           ::fnmatch(pattern.c_str(), base.c_str(), 0) == 0;
  });
}

Result<Selection> select_files(const Listing& listing, const std::vector<std::string>& include,
                               const std::string& where) {
  Selection selection;
  std::vector<const RemoteFile*> all, weights, indices, ggufs;
  for (const RemoteFile& file : listing.files) {
    all.push_back(&file);
    if (matches_any(file.name, include)) selection.now.push_back(file);
    if (in_root(file.name) && file.name.ends_with(kSafetensors)) weights.push_back(&file);
    if (in_root(file.name) && file.name.ends_with(kSafetensorsIndex)) indices.push_back(&file);
    // A picture encoder beside a language model is not a second model.
    if (file.name.ends_with(kGguf) && file.name.find("mmproj") == std::string::npos) ggufs.push_back(&file);
  }
  if (!include.empty()) {
    if (selection.now.empty())
      return make_error(Code::kUsage, "{}: no file matches {}; it has:{}", where,
                        dump_json(Json(include), -1), names_with_sizes(all));
    return selection;
  }
  if (weights.empty() && !ggufs.empty()) return select_gguf(ggufs, where);
  if (weights.empty())
    return unsupported(
        "{}: no .safetensors at its top and no .gguf; fettle reads no other weights; it has:{}", where,
        names_with_sizes(all));

  for (const RemoteFile& file : listing.files)
    if (is_companion(file.name)) selection.now.push_back(file);
  selection.index = choose_index(indices);
  const auto whole = std::find_if(weights.begin(), weights.end(),
                                  [](const RemoteFile* file) { return file->name == "model.safetensors"; });
  for (const RemoteFile& file : listing.files)
    if (file.name == selection.index) selection.now.push_back(file);
  if (!selection.index.empty()) return selection;
  if (whole != weights.end()) weights = {*whole};
  for (const RemoteFile* file : weights) selection.now.push_back(*file);
  return selection;
}

Result<std::vector<RemoteFile>> files_of_index(const Listing& listing, const Json& index,
                                               const std::string& where) {
  const JsonReader reader(index, where);
  TRY(const JsonReader map, reader.object("weight_map"));
  std::map<std::string, const RemoteFile*> offered;
  for (const RemoteFile& file : listing.files) offered[file.name] = &file;
  std::set<std::string> wanted;
  for (const auto& [tensor, file] : map.json().items()) {
    if (!file.is_string()) return bad_input("{}: weight_map: {} names no file", where, shown_name(tensor));
    wanted.insert(file.get<std::string>());
  }
  std::vector<RemoteFile> files;
  for (const std::string& name : wanted) {
    const auto found = offered.find(name);
    if (found == offered.end())
      return bad_input(
          "{}: weight_map names {}, which the source does not list; the upload may be incomplete", where,
          shown_name(name));
    files.push_back(*found->second);
  }
  if (files.empty()) return bad_input("{}: weight_map is empty; expected the names of weight files", where);
  return files;
}

std::string without_shard_number(const std::string& name) {
  const size_t dot = name.rfind('.');
  constexpr size_t kLength = sizeof("-00001-of-00003") - 1;
  if (dot == std::string::npos || dot < kLength) return name;
  if (::fnmatch("-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]",
                name.substr(dot - kLength, kLength).c_str(), 0))
    return name;
  return name.substr(0, dot - kLength) + name.substr(dot);
}

std::string model_file_or_folder(const std::vector<std::string>& names) {
  std::set<std::string> models;
  std::string first_gguf, config;
  bool safetensors = false;
  for (const std::string& name : names) {
    if (name.ends_with(kSafetensors)) safetensors = true;
    if (name.ends_with(kGguf) && name.find("mmproj") == std::string::npos) {
      models.insert(without_shard_number(name));
      if (first_gguf.empty() || name < first_gguf) first_gguf = name;
    }
    if (base_name(name) == "config.json" && (config.empty() || name.size() < config.size())) config = name;
  }
  if (!safetensors && models.size() == 1) return first_gguf;
  const size_t slash = config.rfind('/');
  return slash == std::string::npos ? "" : config.substr(0, slash);
}

}  // namespace fettle
