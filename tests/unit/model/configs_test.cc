// Full-size models from their configurations alone: sums against those that their makers published.
#include "arch/sizes.h"
#include "base/temporary_directory.h"
#include "model/testing.h"
#include "runtime/kv_cache.h"

namespace fettle {
namespace {

struct Published {
  const char* name;
  double total, total_precision, active, active_precision;  // billions, and half of the last digit published
  int64_t kv_bytes_per_token;                               // in bf16
};

class Configs : public testing::TestWithParam<Published> {};

TEST_P(Configs, SumsAreThePublishedOnes) {
  const Published& p = GetParam();
  const Checkpoint checkpoint = must(Checkpoint::open(std::string(FETTLE_TEST_DATA) + "/configs/" + p.name));
  Graph graph = must(build_graph(checkpoint)).graph;
  EXPECT_NEAR(static_cast<double>(graph.parameters()) * 1e-9, p.total, p.total_precision);
  EXPECT_NEAR(static_cast<double>(graph.active_parameters()) * 1e-9, p.active, p.active_precision);
  EXPECT_EQ(must(build_graph(checkpoint)).unread_fields, std::vector<std::string>{});
  graph = must(run_passes(graph, {}, nullptr));
  EXPECT_EQ(kv_bytes_per_token(graph), p.kv_bytes_per_token);
}

// 576 numbers a layer and token of latent attention; keys and values of every kv head otherwise.
INSTANTIATE_TEST_SUITE_P(
    Models, Configs,
    testing::Values(
        Published{"deepseek-v2-lite", 15.7, 0.05, 2.4, 0.1, 27 * 576 * 2},
        Published{"deepseek-v2", 236, 0.5, 21, 0.5, 60 * 576 * 2},
        Published{"deepseek-v3", 671, 0.5, 37, 0.5, 61 * 576 * 2},
        Published{"deepseek-r1", 671, 0.5, 37, 0.5, 61 * 576 * 2},
        Published{"deepseek-v3.1", 671, 0.5, 37, 0.5, 61 * 576 * 2},
        // V3 with an indexer of 14 M in each layer, whose keys of 128 are kept as well.
        Published{"deepseek-v3.2", 671.9, 0.5, 37, 0.5, 61 * (576 + 128) * 2},
        // Layers with an entry of 512 and an index key of 128 for every 4 tokens, and layers with an
        // entry for every 128.
        Published{"deepseek-v4-flash", 284, 0.5, 13, 0.5, 21 * (512 + 128) * 2 / 4 + 20 * 512 * 2 / 128},
        Published{"deepseek-v4-pro", 1600, 50, 49, 0.5, 30 * (512 + 128) * 2 / 4 + 31 * 512 * 2 / 128},
        Published{"r1-distill-qwen-1.5b", 1.78, 0.005, 1.78, 0.005, 28 * 2 * 2 * 128 * 2},
        Published{"r1-distill-qwen-7b", 7.62, 0.005, 7.62, 0.005, 28 * 2 * 4 * 128 * 2},
        Published{"r1-distill-qwen-14b", 14.8, 0.05, 14.8, 0.05, 48 * 2 * 8 * 128 * 2},
        Published{"r1-distill-qwen-32b", 32.8, 0.05, 32.8, 0.05, 64 * 2 * 8 * 128 * 2},
        Published{"r1-distill-llama-8b", 8.03, 0.005, 8.03, 0.005, 32 * 2 * 8 * 128 * 2},
        Published{"r1-distill-llama-70b", 70.6, 0.05, 70.6, 0.05, 80 * 2 * 8 * 128 * 2}),
    [](const auto& info) {
      std::string name = info.param.name;
      for (char& c : name)
        if (!isalnum(static_cast<unsigned char>(c))) c = '_';
      return name;
    });

// A field that nothing reads is named; one that asks for a part that is not here is refused.
TEST(UnknownFields, AreReportedOrRefused) {
  const std::string text =
      must(read_file(std::string(FETTLE_TEST_DATA) + "/configs/deepseek-v4-flash/config.json"));
  const auto with = [&](const std::string& field) {
    TemporaryDirectory directory;
    std::string changed = text;
    changed.insert(changed.find('{') + 1, field + ",");
    EXPECT_TRUE(write_file_atomic(directory / "config.json", changed).ok());
    return build_graph(must(Checkpoint::open(directory.path())));
  };
  EXPECT_EQ(must(with("\"gate_temp\": 2.0")).unread_fields, std::vector<std::string>{"gate_temp"});
  EXPECT_EQ(must(with("\"gate_temp\": null")).unread_fields, std::vector<std::string>{});
  const auto refused = with("\"engram_layer_ids\": [1, 14]");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kUnsupported);
  EXPECT_NE(refused.error().message().find("engram_layer_ids"), std::string::npos);
}

// Bytes as the makers store them: e4m3 but for embedding, head, routers, norms and what chooses.
TEST(Configs, BytesFollowTheQuantisationOfTheConfiguration) {
  const auto sizes = [](const std::string& name) {
    const Checkpoint checkpoint = must(Checkpoint::open(std::string(FETTLE_TEST_DATA) + "/configs/" + name));
    BuiltGraph built = must(build_graph(checkpoint));
    const SourceSizes found = source_sizes(built);
    uint64_t parts = 0, schemes = 0;
    for (const auto& [part, bytes] : found.by_part) parts += bytes;
    for (const auto& [scheme, count] : found.by_scheme) schemes += count.bytes;
    EXPECT_EQ(parts, found.total) << name;
    EXPECT_EQ(schemes, found.total) << name;
    return found;
  };
  const SourceSizes v3 = sizes("deepseek-v3");
  // 58 layers of 256 experts of three matrices of 2048 x 7168, a scale for 128 x 128.
  EXPECT_EQ(v3.by_part.at("experts"), 58ULL * 256 * 3 * (2048 * 7168 + 4 * 16 * 56));
  EXPECT_EQ(v3.by_part.at("embedding_and_head"), 2ULL * 2 * 129280 * 7168 + 2 * 7168);
  EXPECT_EQ(sizes("deepseek-v3.2").by_part.at("attention") - v3.by_part.at("attention"),
            61ULL * (64 * 128 * 1536 + 4 * 64 * 12 + 128 * 7168 + 4 * 56 + 2 * 64 * 7168 + 2 * 2 * 128));
  EXPECT_EQ(sizes("deepseek-v2").by_scheme.size(), 1u);
}

// At the full context of 1,048,576 tokens, as others computed it: 6.7 and 9.6 GiB.
TEST(Configs, AMillionTokensOfCompressedCache) {
  for (const auto& [name, gib] : {std::pair("deepseek-v4-flash", 6.7), std::pair("deepseek-v4-pro", 9.6)}) {
    const Checkpoint checkpoint = must(Checkpoint::open(std::string(FETTLE_TEST_DATA) + "/configs/" + name));
    const Graph graph = must(run_passes(must(build_graph(checkpoint)).graph, {}, nullptr));
    const double bytes = static_cast<double>(kv_bytes_per_token(graph)) * (1 << 20);
    EXPECT_NEAR(bytes / (1 << 30), gib, 0.05) << name;
    EXPECT_LT(kv_window_bytes(graph), int64_t{1} << 30) << name;
  }
}

}  // namespace
}  // namespace fettle
