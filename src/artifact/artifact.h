// The artifact NAME.fettle/: what serving needs and nothing else. manifest.json, graph.fir,
// draft.fir (of a model that drafts tokens), plan.json, weights-NNNNN.bin, tokenizer/,
// known_answer.safetensors; beside them certificate.json and report.html. See docs/artifact.md.
// content_digest: SHA-256 of the lines "name size sha256" of graphs, plan, weights, tokenizer and known
// answer, sorted by name.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "runtime/weight_store.h"

namespace fettle {

constexpr int64_t kManifestVersion = 2;

// One weight's place: `bytes` at `offset` of the file, packed in `layout`, members one after the other.
struct WeightEntry {
  std::string name, scheme, layout, file, sha256;
  Shape shape;
  uint64_t offset = 0, bytes = 0;
};

struct Artifact {
  std::string path;
  Json manifest;
  Graph graph;
  std::optional<Graph> draft;
  Plan plan;
  std::map<std::string, std::string> text_files;  // of tokenizer/
  std::vector<WeightEntry> entries;
  std::string content_digest;
  std::optional<Json> certificate;
};

bool is_artifact(const std::string& path);

// Reads and checks everything but the weights' bytes: schema, digests of the small files, that every weight
// of the graph lies whole inside its file with the size its scheme and layout need.
Result<Artifact> open_artifact(const std::string& path);

// The weights of `directory`: read in parallel into huge pages if they are at most `memory_limit` bytes, else
// mapped.
constexpr uint64_t kHalfOfMemory = UINT64_MAX;
Result<std::shared_ptr<WeightStore>> load_weights(const std::string& directory,
                                                  std::span<const WeightEntry> entries, int threads,
                                                  uint64_t memory_limit = kHalfOfMemory);

// Hashes every file of the content and compares with the manifest.
Status check_hashes(const Artifact& artifact);

Json entry_to_json(const WeightEntry& entry);
Result<WeightEntry> entry_from_json(const Json& json, const std::string& what);

}  // namespace fettle
