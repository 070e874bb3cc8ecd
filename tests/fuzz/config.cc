#include "checkpoint/config.h"

#include <stdlib.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "arch/arch.h"
#include "base/check.h"
#include "checkpoint/hugging_face.h"
#include "graph/text.h"

namespace {

// A model directory that goes away with the process.
class Scratch {
 public:
  Scratch() {
    std::string pattern = std::filesystem::temp_directory_path() / "fettle-fuzz-XXXXXX";
    CHECK(::mkdtemp(pattern.data()) != nullptr, "{}", pattern);
    path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  void write(const char* name, const uint8_t* data, size_t size) const {
    std::ofstream out(path_ + "/" + name, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  }

 private:
  std::string path_;
};

void read_fields(const fettle::Checkpoint& checkpoint) {
  const auto fields = fettle::ModelFields::of(checkpoint);
  if (!fields.ok()) return;
  for (const char* field :
       {"hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "head_dim"}) {
    const auto size = fields->size(field);
    CHECK(!size.ok() || (*size >= 1 && *size <= INT32_MAX), "{}", field);
    (void)fields->number_or(field, 1.0);
    (void)fields->boolean_or(field, true);
    (void)fields->string_or(field, "");
    (void)fields->integers(field);
  }
  const auto rope = fettle::rope_config(checkpoint, *fields);
  if (rope.ok())
    CHECK(std::isfinite(rope->theta) && rope->theta > 0 && rope->factor > 0, "{} {}", rope->theta,
          rope->factor);
}

void check_graph(const fettle::Graph& graph) {
  const std::string text = fettle::print_graph(graph);
  const auto again = fettle::parse_graph(text, "printed");
  CHECK(again.ok() && fettle::print_graph(*again) == text, "{}", again.ok() ? text : again.error().message());
}

void read_and_build(const fettle::Checkpoint& checkpoint) {
  read_fields(checkpoint);
  if (const auto built = fettle::build_graph(checkpoint); built.ok()) check_graph(built->graph);
}

}  // namespace

// The same bytes as config.json, alone and so a graph without weights, as a GGUF's metadata, and as an index
// of shards.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Scratch scratch;
  scratch.write("config.json", data, size);
  if (const auto directory = fettle::Checkpoint::open(scratch.path()); directory.ok())
    read_and_build(*directory);
  if (const auto gguf = fettle::Checkpoint::open(scratch.path() + "/config.json"); gguf.ok())
    read_and_build(*gguf);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto index = fettle::parse_shard_index(text, "index"); index.ok())
    for (const auto& [tensor, file] : *index) CHECK(file.find('/') == file.npos && file != "..", "{}", file);
  return 0;
}
