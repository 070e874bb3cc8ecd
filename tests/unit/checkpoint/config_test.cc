#include "checkpoint/config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "builders.h"
#include "checkpoint/tensor_names.h"

namespace fettle {
namespace {

// A checkpoint without weights and its fields.
struct Opened {
  explicit Opened(const std::string& path) : checkpoint(Checkpoint::open(path)), fields(of(checkpoint)) {}
  static Result<ModelFields> of(const Result<Checkpoint>& checkpoint) {
    EXPECT_TRUE(checkpoint.ok()) << (checkpoint.ok() ? "" : checkpoint.error().message());
    return ModelFields::of(*checkpoint);
  }
  Result<RopeConfig> rope() const { return rope_config(*checkpoint, *fields); }
  Result<Checkpoint> checkpoint;
  Result<ModelFields> fields;
};

Opened from_json(const std::string& config) {
  TemporaryDirectory directory;
  directory.write("config.json", config);
  return Opened(directory.path());
}
Opened from_gguf(const GgufBuilder& builder) {
  TemporaryDirectory directory;
  return Opened(directory.write("model.gguf", builder.file()));
}

TEST(ModelFields, BothFormsGiveTheSameAnswers) {
  const std::pair<const char*, const char*> pairs[] = {
      {"qwen2-tied", "qwen2-tied/model-f32.gguf"},
      {"llama-gqa-llama3rope", "llama-gqa-llama3rope/model-q8_0.gguf"},
      {"qwen2-untied-sharded", "qwen2-gguf-f16/model-f16-bf16.gguf"}};
  for (const auto& [directory, file] : pairs) {
    const Opened a(fixture(directory)), b(fixture(file));
    ASSERT_TRUE(a.fields.ok() && b.fields.ok());
    EXPECT_EQ(a.fields->architecture(), b.fields->architecture());
    for (const char* field :
         {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
          "intermediate_size", "max_position_embeddings", "vocab_size"}) {
      const auto x = a.fields->size(field), y = b.fields->size(field);
      ASSERT_TRUE(x.ok() && y.ok()) << field;
      EXPECT_EQ(*x, *y) << file << " " << field;
    }
    EXPECT_EQ(a.fields->number("rms_norm_eps").value(), b.fields->number("rms_norm_eps").value()) << file;
    EXPECT_EQ(a.fields->boolean("tie_word_embeddings").value(),
              b.fields->boolean("tie_word_embeddings").value())
        << file;
    EXPECT_EQ(a.rope().value().theta, b.rope().value().theta) << file;
  }
}

TEST(ModelFields, ErrorsNameTheFileAndItsOwnSpelling) {
  const Opened json = from_json(R"({"model_type":"llama","hidden_size":"big","num_hidden_layers":-1,)"
                                R"("vocab_size":1e30,"head_dim":null})");
  expect_error(json.fields->integer("hidden_size"), Code::kBadInput,
               {"config.json", "'hidden_size'", "\"big\""});
  expect_error(json.fields->size("num_hidden_layers"), Code::kBadInput,
               {"config.json", "'num_hidden_layers'", "-1"});
  expect_error(json.fields->size("vocab_size"), Code::kBadInput, {"'vocab_size'"});
  EXPECT_FALSE(json.fields->has("head_dim"));
  EXPECT_EQ(json.fields->size_or("head_dim", 64).value(), 64);
  expect_error(json.fields->size_or("num_hidden_layers", 1), Code::kBadInput, {"-1"});
  EXPECT_EQ(json.fields->spelling("hidden_size"), "hidden_size");

  GgufBuilder b;
  b.string("general.architecture", "llama").u32("llama.block_count", 0);
  const Opened gguf = from_gguf(b);
  expect_error(gguf.fields->integer("hidden_size"), Code::kBadInput,
               {"model.gguf", "'llama.embedding_length'", "missing"});
  expect_error(gguf.fields->size("num_hidden_layers"), Code::kBadInput, {"'llama.block_count'", "0"});
  EXPECT_FALSE(gguf.fields->has("no_such_field"));
  EXPECT_FALSE(gguf.fields->has("tie_word_embeddings"));
  EXPECT_EQ(gguf.fields->integer_or("sliding_window", 7).value(), 7);

  expect_error(from_json("{}").fields, Code::kBadInput, {"model_type"});
}

TEST(ModelFields, GgufArchitecturesAndDerivedFields) {
  GgufBuilder b;
  b.string("general.architecture", "qwen3moe")
      .u32("qwen3moe.expert_count", 8)
      .u32("tokenizer.ggml.eos_token_id", 5);
  b.info("token_embd.weight", {4, 9}, 0, 0).info("output.weight", {4, 9}, 0, 160);
  b.data = std::string(320, '\0');
  const Opened moe = from_gguf(b);
  EXPECT_EQ(moe.fields->architecture(), "qwen3_moe");
  EXPECT_EQ(moe.fields->integer("num_experts").value(), 8);
  EXPECT_EQ(moe.fields->integer("vocab_size").value(), 9);
  EXPECT_EQ(moe.fields->integer("eos_token_id").value(), 5);
  EXPECT_FALSE(moe.fields->boolean("tie_word_embeddings").value());
  EXPECT_TRUE(moe.fields->boolean("norm_topk_prob").value());
  b.pair("qwen3moe.expert_weights_norm", 7, raw<uint8_t>(0)).u32("qwen3moe.vocab_size", 10);
  EXPECT_FALSE(from_gguf(b).fields->boolean("norm_topk_prob").value());
  EXPECT_EQ(from_gguf(b).fields->integer("vocab_size").value(), 10);
}

TEST(RopeConfigTest, BothSpellingsOfHuggingFace) {
  const char* configs[] = {
      R"({"model_type":"x","rope_theta":5000.0,"max_position_embeddings":99,
          "rope_scaling":{"type":"yarn","factor":40,"original_max_position_embeddings":4096,
          "beta_fast":33,"beta_slow":2,"mscale":0.707,"mscale_all_dim":0.5}})",
      R"({"model_type":"x","max_position_embeddings":99,
          "rope_parameters":{"rope_type":"yarn","rope_theta":5000,"factor":40.0,
          "original_max_position_embeddings":4096,
          "beta_fast":33,"beta_slow":2,"mscale":0.707,"mscale_all_dim":0.5}})"};
  for (const char* config : configs) {
    const auto rope = from_json(config).rope();
    ASSERT_TRUE(rope.ok()) << rope.error().message();
    EXPECT_EQ(rope->kind, RopeKind::kYarn);
    EXPECT_EQ(rope->theta, 5000.0);
    EXPECT_EQ(rope->factor, 40.0);
    EXPECT_EQ(rope->original_context, 4096.0);
    EXPECT_EQ(rope->beta_fast, 33.0);
    EXPECT_EQ(rope->beta_slow, 2.0);
    EXPECT_EQ(rope->mscale, 0.707);
    EXPECT_EQ(rope->mscale_all_dim, 0.5);
    EXPECT_FALSE(rope->attention_factor);
  }
}

TEST(RopeConfigTest, KindsAndDefaults) {
  const auto kind = [](const std::string& rest) {
    return from_json(R"({"model_type":"x")" + rest + "}").rope();
  };
  EXPECT_EQ(kind("").value().kind, RopeKind::kNone);
  EXPECT_EQ(kind("").value().theta, 10000.0);
  EXPECT_EQ(kind(R"(,"rope_scaling":null)").value().kind, RopeKind::kNone);
  EXPECT_EQ(kind(R"(,"rope_parameters":{"rope_type":"default","rope_theta":7})").value().theta, 7.0);
  EXPECT_EQ(kind(R"(,"rope_scaling":{"type":"linear","factor":2})").value().kind, RopeKind::kLinear);
  const auto yarn = kind(R"(,"max_position_embeddings":32,)"
                         R"("rope_scaling":{"rope_type":"yarn","factor":4,"attention_factor":1.5})");
  EXPECT_EQ(yarn.value().original_context, 32.0);
  EXPECT_EQ(yarn.value().beta_fast, 32.0);
  EXPECT_EQ(yarn.value().attention_factor, 1.5);

  expect_error(kind(R"(,"rope_scaling":{"rope_type":"dynamic","factor":2})"), Code::kUnsupported,
               {"config.json", "'dynamic'"});
  expect_error(kind(R"(,"rope_parameters":{"full_attention":{"rope_type":"default"}})"), Code::kUnsupported,
               {"full_attention"});
  expect_error(kind(R"(,"rope_scaling":{"type":"linear"})"), Code::kBadInput, {"rope_scaling", "'factor'"});
  expect_error(kind(R"(,"rope_scaling":{"type":"linear","factor":0})"), Code::kBadInput,
               {"'factor'", "above zero"});
  expect_error(kind(R"(,"rope_scaling":{"type":"yarn","factor":2})"), Code::kBadInput,
               {"original_max_position_embeddings"});
  EXPECT_EQ(kind(R"(,"rope_scaling":{"type":"linear","factor":2},"rope_theta":7,
                    "rope_parameters":{"rope_type":"linear","factor":2,"rope_theta":7})")
                .value()
                .factor,
            2.0);
  expect_error(
      kind(R"(,"rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"rope_type":"default"})"),
      Code::kBadInput, {"rope_parameters", "rope_scaling", "different"});
  expect_error(kind(R"(,"rope_scaling":[])"), Code::kBadInput, {"rope_scaling", "object"});
  expect_error(kind(R"(,"rope_theta":-1)"), Code::kBadInput, {"rope_theta", "-1"});
  expect_error(kind(R"(,"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,
                       "original_max_position_embeddings":32})"),
               Code::kBadInput, {"high_freq_factor", "low_freq_factor"});
}

// The divisors of the GGUF are what the formula of the directory's parameters gives.
TEST(RopeConfigTest, Llama3OfBothForms) {
  const auto a = Opened(fixture("llama-gqa-llama3rope")).rope(),
             b = Opened(fixture("llama-gqa-llama3rope/model-f32.gguf")).rope();
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->kind, RopeKind::kLlama3);
  EXPECT_EQ(b->kind, RopeKind::kLlama3);
  EXPECT_TRUE(a->divisors.empty());
  ASSERT_EQ(b->divisors.size(), 8u);
  EXPECT_EQ(a->factor, 8.0);
  EXPECT_EQ(a->low_freq_factor, 1.0);
  EXPECT_EQ(a->high_freq_factor, 4.0);
  EXPECT_EQ(a->original_context, 32.0);
  for (size_t i = 0; i < 8; ++i) {
    const double wavelength = 2 * M_PI * std::pow(a->theta, static_cast<double>(i) / 8);
    const double smooth =
        (a->original_context / wavelength - a->low_freq_factor) / (a->high_freq_factor - a->low_freq_factor);
    const double s = std::min(1.0, std::max(0.0, smooth));
    EXPECT_NEAR(b->divisors[i], 1 / ((1 - s) / a->factor + s), 1e-5) << i;
  }
}

TEST(RopeConfigTest, GgufScaling) {
  GgufBuilder b;
  b.string("general.architecture", "qwen2").pair("qwen2.rope.freq_base", 6, raw(1e6f));
  EXPECT_EQ(from_gguf(b).rope().value().kind, RopeKind::kNone);
  EXPECT_EQ(from_gguf(b).rope().value().theta, 1e6);
  b.string("qwen2.rope.scaling.type", "yarn").pair("qwen2.rope.scaling.factor", 6, raw(4.f));
  expect_error(from_gguf(b).rope(), Code::kBadInput,
               {"model.gguf", "qwen2.rope.scaling.original_context_length"});
  b.u32("qwen2.rope.scaling.original_context_length", 64)
      .pair("qwen2.rope.scaling.yarn_log_multiplier", 6, raw(0.1f));
  const auto yarn = from_gguf(b).rope();
  ASSERT_TRUE(yarn.ok()) << yarn.error().message();
  EXPECT_EQ(yarn->factor, 4.0);
  EXPECT_EQ(yarn->original_context, 64.0);
  EXPECT_DOUBLE_EQ(yarn->mscale_all_dim, 1.0);
  EXPECT_DOUBLE_EQ(yarn->mscale, 1.0);
  EXPECT_FALSE(yarn->attention_factor);
  b.pair("qwen2.rope.scaling.attn_factor", 6, raw(2.f));
  EXPECT_NEAR(from_gguf(b).rope().value().attention_factor.value(), 2 * (1 + 0.1 * std::log(4.0)), 1e-12);

  GgufBuilder odd;
  odd.string("general.architecture", "phi3").string("phi3.rope.scaling.type", "longrope");
  expect_error(from_gguf(odd).rope(), Code::kUnsupported, {"phi3.rope.scaling.type", "'longrope'"});
}

TEST(RopeConfigTest, DivisorsThatCannotBe) {
  for (const float value : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    GgufBuilder b;
    b.string("general.architecture", "llama").info("rope_freqs.weight", {1}, 0, 0);
    b.data = raw(value);
    expect_error(from_gguf(b).rope(), Code::kBadInput, {"rope_freqs.weight"});
  }
}

TEST(TensorNames, GgufSpelling) {
  const auto name = [](std::string_view hf) {
    const auto ref = gguf_tensor_name(hf);
    return ref ? fmt::format("{}#{}", ref->name, ref->stack_index) : "none";
  };
  EXPECT_EQ(name("model.embed_tokens.weight"), "token_embd.weight#0");
  EXPECT_EQ(name("model.norm.weight"), "output_norm.weight#0");
  EXPECT_EQ(name("lm_head.weight"), "output.weight#0");
  EXPECT_EQ(name("model.layers.3.self_attn.q_proj.weight"), "blk.3.attn_q.weight#0");
  EXPECT_EQ(name("model.layers.31.self_attn.v_proj.bias"), "blk.31.attn_v.bias#0");
  EXPECT_EQ(name("model.layers.0.self_attn.o_proj.weight"), "blk.0.attn_output.weight#0");
  EXPECT_EQ(name("model.layers.0.self_attn.k_norm.weight"), "blk.0.attn_k_norm.weight#0");
  EXPECT_EQ(name("model.layers.0.input_layernorm.weight"), "blk.0.attn_norm.weight#0");
  EXPECT_EQ(name("model.layers.0.post_attention_layernorm.weight"), "blk.0.ffn_norm.weight#0");
  EXPECT_EQ(name("model.layers.2.mlp.down_proj.weight"), "blk.2.ffn_down.weight#0");
  EXPECT_EQ(name("model.layers.2.mlp.gate.weight"), "blk.2.ffn_gate_inp.weight#0");
  EXPECT_EQ(name("model.layers.2.mlp.experts.17.gate_proj.weight"), "blk.2.ffn_gate_exps.weight#17");
  for (const char* unknown :
       {"", ".", "weight", "model.layers.", "model.layers.x.mlp.gate.weight", "model.layers.1",
        "model.layers.1.weight", "model.layers.-1.mlp.gate.weight", "model.layers.01.mlp.gate.weight",
        "model.norm.scale", "model.layers.99999999999999999999.mlp.gate.weight",
        "model.layers.1.mlp.experts.gate_proj.weight", "model.layers.1.mlp.experts.0.gate.weight",
        "model.layers.1.self_attn.rotary.weight"})
    EXPECT_EQ(name(unknown), "none") << unknown;
}

TEST(TensorNames, ResolvesInStacks) {
  GgufBuilder b;
  b.string("general.architecture", "qwen3moe").info("blk.0.ffn_up_exps.weight", {2, 1, 4}, 0, 0);
  b.data = raw(0.f) + raw(1.f) + raw(2.f) + raw(3.f) + raw(4.f) + raw(5.f) + raw(6.f) + raw(7.f);
  const Opened moe = from_gguf(b);
  const auto ref = resolve_tensor(*moe.checkpoint, "model.layers.0.mlp.experts.3.up_proj.weight");
  ASSERT_TRUE(ref.ok()) << ref.error().message();
  EXPECT_EQ(moe.checkpoint->matrix(ref->name, ref->stack_index).value().decode(),
            (std::vector<float>{6.f, 7.f}));
  expect_error(resolve_tensor(*moe.checkpoint, "model.layers.0.mlp.experts.4.up_proj.weight"),
               Code::kBadInput,
               {"'model.layers.0.mlp.experts.4.up_proj.weight'", "'blk.0.ffn_up_exps.weight'", "[4, 1, 2]"});
  expect_error(resolve_tensor(*moe.checkpoint, "lm_head.weight"), Code::kBadInput,
               {"'lm_head.weight'", "'output.weight'"});
  expect_error(resolve_tensor(*moe.checkpoint, "odd"), Code::kBadInput, {"'odd'"});
}

TEST(TensorNames, EveryTensorOfTheMoeDirectoryHasAGgufName) {
  const auto checkpoint = Checkpoint::open(fixture("qwen3_moe"));
  ASSERT_TRUE(checkpoint.ok());
  for (const StoredTensor& tensor : checkpoint->tensors())
    EXPECT_TRUE(gguf_tensor_name(tensor.name)) << tensor.name;
}

}  // namespace
}  // namespace fettle
