// A configuration without weights is held to no tensor's shape: what no graph can have must be refused by
// name.
#include <gtest/gtest.h>

#include "arch/arch.h"
#include "base/file.h"
#include "base/json.h"
#include "base/temporary_directory.h"

namespace fettle {
namespace {

std::string outcome(const Json& changes) {
  Json config = {{"model_type", "qwen3_moe"},  {"hidden_size", 64}, {"num_hidden_layers", 2},
                 {"num_attention_heads", 4},   {"vocab_size", 272}, {"intermediate_size", 64},
                 {"rms_norm_eps", 1e-5},       {"num_experts", 8},  {"num_experts_per_tok", 2},
                 {"moe_intermediate_size", 32}};
  config.update(changes);
  const TemporaryDirectory directory;
  EXPECT_TRUE(write_file_atomic(directory / "config.json", dump_json(config)).ok());
  const auto checkpoint = Checkpoint::open(directory.path());
  if (!checkpoint.ok()) return checkpoint.error().message();
  const auto built = build_graph(*checkpoint);
  return built.ok() ? "" : built.error().message();
}

TEST(HostileConfig, AModestOneIsFine) { EXPECT_EQ(outcome(Json::object()), ""); }

TEST(HostileConfig, WhatNoGraphCanHaveIsRefusedByFileAndField) {
  constexpr int64_t kHuge = INT32_MAX;
  const struct {
    Json changes;
    const char* expected;
  } cases[] = {
      {{{"num_hidden_layers", kHuge}}, "num_hidden_layers is 2147483647; expected 1 to 1024"},
      {{{"num_attention_heads", kHuge}}, "num_attention_heads is 2147483647"},
      {{{"num_attention_heads", 128}}, "head_dim"},  // of 0 columns
      {{{"head_dim", kHuge}}, "head_dim"},
      {{{"head_dim", 3}}, "rotary width is 3"},
      {{{"num_key_value_heads", 3}}, "do not divide"},
      {{{"rms_norm_eps", -1}}, "rms_norm_eps is -1"},
      {{{"rope_theta", 1e-300}}, "not finite"},
      {{{"hidden_size", kHuge}, {"head_dim", 64}, {"num_experts", kHuge}, {"moe_intermediate_size", kHuge}},
       "parameters"},
  };
  for (const auto& c : cases) {
    const std::string found = outcome(c.changes);
    EXPECT_NE(found.find(c.expected), std::string::npos) << dump_json(c.changes, -1) << " -> " << found;
    EXPECT_NE(found.find("config.json"), std::string::npos) << found;
  }
}

}  // namespace
}  // namespace fettle
