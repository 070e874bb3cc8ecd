// A hostile artifact. The input is its files, parted by the line "==== NAME" that stands before each one's
// bytes: manifest.json, plan.json, graph.fir, weights-00001.bin... Sizes and digests of the manifest are put
// right where it lists them, as whoever made the artifact would have done; what opens is then loaded,
// compiled and run.
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>

#include "artifact/artifact.h"
#include "base/check.h"
#include "base/hash.h"
#include "runtime/generate.h"

using namespace fettle;

namespace {

constexpr std::string_view kMark = "==== ";
constexpr std::string_view kNames[] = {"manifest.json",
                                       "plan.json",
                                       "graph.fir",
                                       "draft.fir",
                                       "weights-00001.bin",
                                       "weights-00002.bin",
                                       "tokenizer/tokenizer.json"};
constexpr int64_t kTokens = 8;

// A directory in memory that goes away with the process.
class Scratch {
 public:
  Scratch() {
    const bool memory = std::filesystem::is_directory("/dev/shm");
    std::string pattern =
        (memory ? std::filesystem::path("/dev/shm") : std::filesystem::temp_directory_path()) /
        "fettle-fuzz-XXXXXX";
    CHECK(::mkdtemp(pattern.data()) != nullptr, "{}", pattern);
    path_ = pattern;
    std::filesystem::create_directory(path_ + "/tokenizer");
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  void fill(const std::map<std::string, std::string>& files) const {
    for (const std::string_view name : kNames) {
      const auto it = files.find(std::string(name));
      const std::string path = path_ + "/" + std::string(name);
      if (it == files.end()) {
        std::filesystem::remove(path);
        continue;
      }
      std::ofstream(path, std::ios::binary | std::ios::trunc) << it->second;
    }
  }

 private:
  std::string path_;
};

std::map<std::string, std::string> split(std::string_view input) {
  std::map<std::string, std::string> files;
  while (input.starts_with(kMark)) {
    const size_t line = std::min(input.find('\n'), input.size() - 1);
    const std::string name(input.substr(kMark.size(), line - kMark.size()));
    input.remove_prefix(line + 1);
    size_t end = input.starts_with(kMark) ? 0 : input.find("\n" + std::string(kMark));
    if (end == std::string_view::npos) end = input.size();
    files[name] = std::string(input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  return files;
}

void put_right(std::map<std::string, std::string>* files) {
  const auto manifest = files->find("manifest.json");
  if (manifest == files->end()) return;
  auto json = parse_json(manifest->second, "manifest");
  if (!json.ok() || !json->is_object() || !json->contains("files") || !(*json)["files"].is_array()) return;
  std::string lines;
  for (Json& entry : (*json)["files"]) {
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string()) continue;
    const auto file = files->find(entry["name"].get<std::string>());
    if (file == files->end()) continue;
    entry["size"] = file->second.size();
    entry["sha256"] = sha256_hex(file->second);
    lines += fmt::format("{} {} {}\n", file->first, file->second.size(), sha256_hex(file->second));
  }
  (*json)["content_digest"] = sha256_hex(lines);
  manifest->second = dump_json(*json);
}

// Work and memory that a graph may ask for by right, being of the size of its weights, but that a test has
// no time for.
bool is_small(const Graph& graph) {
  int64_t work = 0;
  for (const CacheSpec& c : graph.caches) work += c.kv_heads * (c.k_dim + c.v_dim) * kBlockTokens;
  for (const Node& node : graph.nodes) {
    work += node.type.cols * kTokens;
    for (const WeightRef& ref : node.weights)
      work += graph.find_weight(ref.weight)->expr->parameters() * kTokens;
    if (node.op == Op::kExperts) work += graph.nodes[node.inputs[1]].type.cols * work;
    if (work > 50'000'000) return false;
  }
  return true;
}

void run(const Artifact& artifact, std::shared_ptr<WeightStore> weights) {
  const auto executor = Executor::create({artifact.graph, artifact.plan, std::move(weights), artifact.draft},
                                         {.threads = 1,
                                          .isa = Isa::kScalar,
                                          .max_tokens = kTokens,
                                          .max_logit_rows = kTokens,
                                          .cache_tokens = kBlockTokens});
  if (!executor.ok()) return;
  const int32_t last = static_cast<int32_t>(artifact.graph.vocab) - 1;
  const std::vector<int32_t> ids = {0, last, last / 2, 0};
  Sequence sequence;
  for (const int64_t chunk : {3, 1}) (void)(*executor)->feed(sequence, ids, chunk);
  (*executor)->cache().release(sequence);
  GenerateOptions options;
  options.max_tokens = 6;
  options.speculation = artifact.plan.speculation;
  (void)generate(**executor, sequence, ids, options);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Scratch scratch;
  auto files = split({reinterpret_cast<const char*>(data), size});
  put_right(&files);
  scratch.fill(files);
  const auto artifact = open_artifact(scratch.path());
  if (!artifact.ok()) return 0;
  auto weights = load_weights(artifact->path, artifact->entries, 1);
  CHECK(weights.ok(), "{}", weights.error().message());
  CHECK(check_hashes(*artifact).ok());
  if (is_small(artifact->graph) && (!artifact->draft || is_small(*artifact->draft)))
    run(*artifact, std::move(*weights));
  return 0;
}
