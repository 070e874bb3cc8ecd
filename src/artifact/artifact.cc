#include "artifact/artifact.h"

#include <sys/sysinfo.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/huge_buffer.h"
#include "graph/text.h"
#include "kernels/linear/layout.h"

namespace fettle {

namespace {

// Names in a manifest stay inside the artifact.
bool is_safe_name(const std::string& name) {
  return !name.empty() && name[0] != '/' && name.find("..") == std::string::npos &&
         name.find('\0') == std::string::npos;
}

int64_t needed_bytes(Scheme scheme, const Shape& shape) {
  if (shape.size() == 1) return row_bytes(scheme, shape[0]);
  return packed_bytes(scheme, shape[shape.size() - 2], shape.back()) * (shape.size() == 3 ? shape[0] : 1);
}

Status check_entry(const Artifact& artifact, const WeightEntry& entry, const Expr& expr,
                   const std::map<std::string, uint64_t>& sizes) {
  const std::string where =
      fmt::format("{}: weight @{}", join_path(artifact.path, "manifest.json"), entry.name);
  const auto scheme = parse_scheme(entry.scheme);
  if (!scheme || *scheme != expr.scheme)
    return bad_input("{}: scheme '{}'; the graph says {}", where, entry.scheme, scheme_name(expr.scheme));
  if (entry.shape != expr.shape)
    return bad_input("{}: shape {}; the graph says {}", where, shape_text(entry.shape),
                     shape_text(expr.shape));
  const std::string expected_layout = entry.shape.size() == 1 ? "row" : "n16";
  if (entry.layout != expected_layout)
    return unsupported("{}: layout '{}'; this fettle reads {}", where, entry.layout, expected_layout);
  const int64_t needed = needed_bytes(*scheme, entry.shape);
  if (entry.bytes != static_cast<uint64_t>(needed))
    return bad_input("{}: {} bytes; its scheme and shape need {}", where, entry.bytes, needed);
  const auto file = sizes.find(entry.file);
  if (file == sizes.end()) return bad_input("{}: file '{}' is not one of the artifact's", where, entry.file);
  if (entry.offset % 64 != 0 || entry.offset > file->second || entry.bytes > file->second - entry.offset)
    return bad_input("{}: bytes {}..+{} lie outside '{}' ({} bytes)", where, entry.offset, entry.bytes,
                     entry.file, file->second);
  return {};
}

// The files a manifest lists, with sizes as they are on disk; small ones are hashed at once.
Result<std::map<std::string, uint64_t>> check_files(const Artifact& artifact) {
  const std::string manifest = join_path(artifact.path, "manifest.json");
  std::map<std::string, uint64_t> sizes;
  std::map<std::string, std::string> lines;  // of the content, by name
  if (!artifact.manifest.contains("files") || !artifact.manifest["files"].is_array())
    return bad_input("{}: field 'files' must be a list", manifest);
  for (const Json& file : artifact.manifest["files"]) {
    const JsonReader in(file, manifest + ": files");
    TRY(const std::string name, in.string("name"));
    TRY(const int64_t size, in.integer("size"));
    TRY(const std::string digest, in.string("sha256"));
    if (!is_safe_name(name)) return bad_input("{}: file name '{}' is not allowed", manifest, name);
    const std::string path = join_path(artifact.path, name);
    TRY(const uint64_t found, file_size(path));
    if (found != static_cast<uint64_t>(size))
      return bad_input("{}: {} bytes; the manifest says {}: it is damaged or incomplete", path, found, size);
    if (!sizes.emplace(name, found).second) return bad_input("{}: file '{}' is listed twice", manifest, name);
    lines[name] = fmt::format("{} {} {}\n", name, found, digest);
    if (name.starts_with("weights-")) continue;
    TRY(const std::string hash, sha256_file(path));
    if (hash != digest)
      return bad_input("{}: SHA-256 {}; the manifest says {}: it was changed after fit", path, hash, digest);
  }
  for (const char* needed : {"graph.fir", "plan.json"})
    if (sizes.count(needed) == 0) return bad_input("{}: '{}' is not among the files", manifest, needed);
  std::string content;
  for (const auto& [name, line] : lines) content += line;
  if (const std::string digest = sha256_hex(content); digest != artifact.content_digest)
    return bad_input("{}: content_digest is {}; the files listed give {}: it was changed after fit", manifest,
                     artifact.content_digest, digest);
  return sizes;
}

// The weights that a manifest lists: exactly those of the graphs.
Status read_entries(const std::map<std::string, uint64_t>& sizes, Artifact* artifact) {
  const std::string manifest = join_path(artifact->path, "manifest.json");
  if (!artifact->manifest.contains("weights") || !artifact->manifest["weights"].is_array())
    return bad_input("{}: field 'weights' must be a list", manifest);
  const std::vector<Weight> weights = all_weights(artifact->graph, artifact->draft);
  WeightIndex missing;
  for (const Weight& w : weights) missing.emplace(w.name, w.expr.get());
  for (const Json& json : artifact->manifest["weights"]) {
    TRY(WeightEntry entry, entry_from_json(json, manifest + ": weights"));
    const auto weight = missing.find(entry.name);
    if (weight == missing.end())
      return bad_input("{}: weight @{} is listed twice, or the graph has no such weight", manifest,
                       entry.name);
    TRY_STATUS(check_entry(*artifact, entry, *weight->second, sizes));
    missing.erase(weight);
    artifact->entries.push_back(std::move(entry));
  }
  for (const Weight& w : weights)
    if (missing.count(w.name) != 0)
      return bad_input("{}: weight @{} of the graph is missing", manifest, w.name);
  return {};
}

class LoadedStore final : public WeightStore {
 public:
  Result<StoredWeight> get(const std::string& name) override {
    const auto it = weights_.find(name);
    if (it == weights_.end()) return bad_input("weight @{} is not in the artifact", name);
    return it->second;
  }
  std::map<std::string, StoredWeight> weights_;
};

StoredWeight place(const WeightEntry& entry, const std::byte* file, std::shared_ptr<const void> owner) {
  const Scheme scheme = *parse_scheme(entry.scheme);
  const int64_t members = entry.shape.size() == 3 ? entry.shape[0] : 1;
  return {scheme, entry.shape, file + entry.offset, static_cast<int64_t>(entry.bytes) / members,
          std::move(owner)};
}

}  // namespace

Json entry_to_json(const WeightEntry& e) {
  return {{"name", e.name}, {"scheme", e.scheme}, {"layout", e.layout}, {"shape", e.shape},
          {"file", e.file}, {"offset", e.offset}, {"bytes", e.bytes},   {"sha256", e.sha256}};
}

Result<WeightEntry> entry_from_json(const Json& json, const std::string& what) {
  const JsonReader in(json, what);
  WeightEntry e;
  TRY(e.name, in.string("name"));
  TRY(e.scheme, in.string("scheme"));
  TRY(e.layout, in.string("layout"));
  TRY(e.shape, in.integers("shape"));
  TRY(e.file, in.string("file"));
  TRY(e.sha256, in.string("sha256"));
  TRY(const int64_t offset, in.integer("offset"));
  TRY(const int64_t bytes, in.integer("bytes"));
  if (offset < 0 || bytes < 0) return bad_input("{}: weight @{}: negative offset or size", what, e.name);
  e.offset = static_cast<uint64_t>(offset);
  e.bytes = static_cast<uint64_t>(bytes);
  return e;
}

bool is_artifact(const std::string& path) {
  return path_exists(join_path(path, "manifest.json")) && path_exists(join_path(path, "graph.fir"));
}

Result<Artifact> open_artifact(const std::string& path) {
  Artifact artifact;
  artifact.path = path;
  const std::string manifest_path = join_path(path, "manifest.json");
  TRY(artifact.manifest, read_json_file(manifest_path));
  const JsonReader manifest(artifact.manifest, manifest_path);
  TRY(const int64_t version, manifest.integer("schema_version"));
  if (version != kManifestVersion)
    return unsupported("{}: schema_version {}; this fettle reads {}: fit the model again", manifest_path,
                       version, kManifestVersion);
  TRY(artifact.content_digest, manifest.string("content_digest"));
  TRY(const auto sizes, check_files(artifact));

  const std::string graph_path = join_path(path, "graph.fir"), draft_path = join_path(path, "draft.fir"),
                    plan_path = join_path(path, "plan.json");
  TRY(const std::string graph_text, read_file(graph_path));
  TRY(artifact.graph, parse_graph(graph_text, graph_path));
  if (sizes.count("draft.fir") != 0) {
    TRY(const std::string draft_text, read_file(draft_path));
    TRY(artifact.draft, parse_graph(draft_text, draft_path));
    auto fits = verify_draft(artifact.graph, *artifact.draft);
    if (!fits.ok()) return std::move(fits).error().context(draft_path);
  }
  TRY(const Json plan_json, read_json_file(plan_path));
  TRY(artifact.plan, plan_from_json(plan_json, plan_path));
  for (const auto& [name, size] : sizes)
    if (name.starts_with("tokenizer/")) {
      TRY(artifact.text_files[name.substr(10)], read_file(join_path(path, name)));
    }

  TRY_STATUS(read_entries(sizes, &artifact));
  const std::string certificate = join_path(path, "certificate.json");
  if (path_exists(certificate)) {
    TRY(artifact.certificate, read_json_file(certificate));
  }
  return artifact;
}

Result<std::shared_ptr<WeightStore>> load_weights(const std::string& directory,
                                                  std::span<const WeightEntry> entries, int threads,
                                                  uint64_t memory_limit) {
  auto store = std::make_shared<LoadedStore>();
  struct File {
    std::shared_ptr<const MappedFile> map;
    std::vector<const WeightEntry*> entries;
  };
  std::map<std::string, File> files;
  uint64_t total = 0;
  for (const WeightEntry& e : entries) {
    File& file = files[e.file];
    if (!file.map) {
      TRY(file.map, MappedFile::open(join_path(directory, e.file)));
      total += file.map->bytes().size();
    }
    if (e.offset + e.bytes > file.map->bytes().size())
      return bad_input("{}: {} bytes; weight @{} ends at {}: it was changed while it was opened",
                       file.map->path(), file.map->bytes().size(), e.name, e.offset + e.bytes);
    file.entries.push_back(&e);
  }
  if (memory_limit == kHalfOfMemory) {
    struct sysinfo info {};
    memory_limit = sysinfo(&info) == 0 ? static_cast<uint64_t>(info.totalram) * info.mem_unit / 2 : 0;
  }
  for (const auto& [name, file] : files) {
    const std::byte* data = file.map->bytes().data();
    std::shared_ptr<const void> owner = file.map;
    if (total <= memory_limit) {
      TRY(HugeBuffer buffer, HugeBuffer::allocate(file.map->bytes().size()));
      TRY_STATUS(read_parallel(file.map->path(), buffer.data(), file.map->bytes().size(), threads));
      data = buffer.data();
      owner = std::make_shared<const HugeBuffer>(std::move(buffer));
    }
    for (const WeightEntry* e : file.entries) store->weights_[e->name] = place(*e, data, owner);
  }
  return std::shared_ptr<WeightStore>(std::move(store));
}

Status check_hashes(const Artifact& artifact) {
  for (const Json& file : artifact.manifest["files"]) {
    const std::string path = join_path(artifact.path, file["name"].get<std::string>());
    TRY(const std::string hash, sha256_file(path));
    if (hash != file["sha256"].get<std::string>())
      return bad_input("{}: SHA-256 {}; the manifest says {}: it was changed after fit", path, hash,
                       file["sha256"].get<std::string>());
  }
  return {};
}

}  // namespace fettle
