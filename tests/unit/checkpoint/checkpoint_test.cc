#include "checkpoint/checkpoint.h"

#include <cmath>
#include <cstring>

#include "builders.h"
#include "checkpoint/tensor_names.h"

namespace fettle {
namespace {

Checkpoint open(const std::string& path) {
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint.ok()) << (checkpoint.ok() ? "" : checkpoint.error().message());
  return checkpoint.ok() ? std::move(checkpoint).value() : Checkpoint();
}

constexpr char kConfig[] = R"({"model_type":"llama","hidden_size":4})";

std::string one_tensor(const std::string& name) {
  return safetensors_file(
      fmt::format(R"({{"{}":{{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}}})", name), raw(1.5f));
}

TEST(CheckpointTest, OpensAShardedDirectory) {
  const Checkpoint checkpoint = open(fixture("qwen2-untied-sharded"));
  EXPECT_EQ(checkpoint.format(), SourceFormat::kHuggingFace);
  EXPECT_EQ(checkpoint.tensors().size(), 27u);
  EXPECT_EQ(checkpoint.files().size(), 4u);
  EXPECT_TRUE(checkpoint.warnings().empty());
  const auto head = checkpoint.matrix("lm_head.weight");
  ASSERT_TRUE(head.ok()) << head.error().message();
  EXPECT_EQ(head->rows, 160);
  EXPECT_EQ(head->cols, 64);
  for (const float value : head->decode()) EXPECT_TRUE(std::isfinite(value));
  const auto bias = checkpoint.matrix("model.layers.1.self_attn.q_proj.bias");
  ASSERT_TRUE(bias.ok());
  EXPECT_EQ(bias->rows, 1);
  EXPECT_EQ(bias->cols, 64);
  EXPECT_EQ(checkpoint.find("lm_head.weight")->storage_name(), "F32");
  expect_error(checkpoint.matrix("lm_head.weight", 1), Code::kBadInput, {"'lm_head.weight'", "[160, 64]"});
  expect_error(checkpoint.matrix("nothing"), Code::kBadInput, {"'nothing'", "missing"});
}

TEST(CheckpointTest, OpensEveryFixture) {
  for (const char* name : {"llama-gqa-llama3rope", "qwen2-tied", "qwen3-dense", "qwen3_moe",
                           "llama-gqa-llama3rope/model-f32.gguf", "llama-gqa-llama3rope/model-q8_0.gguf",
                           "qwen2-tied/model-f32.gguf", "qwen2-gguf-f16/model-f16-bf16.gguf",
                           "qwen2-gguf-kquant/model-q4_k-q6_k.gguf"}) {
    const Checkpoint checkpoint = open(fixture(name));
    ASSERT_TRUE(checkpoint.has_weights()) << name;
    for (const StoredTensor& tensor : checkpoint.tensors()) {
      const auto matrix = checkpoint.matrix(tensor.name);
      ASSERT_TRUE(matrix.ok()) << matrix.error().message();
      EXPECT_EQ(static_cast<uint64_t>(matrix->bytes()), tensor.bytes) << tensor.name;
      for (const float value : matrix->decode())
        ASSERT_TRUE(std::isfinite(value)) << name << ": " << tensor.name;
    }
  }
}

// The same model in both forms: every tensor is found under its Hugging Face name and holds the same bytes.
// qwen2 keeps the order of q's and k's rows in GGUF.
TEST(CheckpointTest, GgufHoldsTheSameTensorsAsTheDirectory) {
  const Checkpoint directory = open(fixture("qwen2-tied")), gguf = open(fixture("qwen2-tied/model-f32.gguf"));
  EXPECT_EQ(directory.tensors().size(), gguf.tensors().size());
  for (const StoredTensor& tensor : directory.tensors()) {
    const auto ref = resolve_tensor(gguf, tensor.name);
    ASSERT_TRUE(ref.ok()) << ref.error().message();
    const auto same = gguf.matrix(ref->name, ref->stack_index), original = directory.matrix(tensor.name);
    ASSERT_TRUE(same.ok() && original.ok());
    ASSERT_EQ(same->rows, original->rows) << tensor.name;
    ASSERT_EQ(same->cols, original->cols) << tensor.name;
    EXPECT_EQ(std::memcmp(same->data, original->data, tensor.bytes), 0) << tensor.name;
  }
}

TEST(CheckpointTest, StorageOfTheQuantisedFixture) {
  const Checkpoint checkpoint = open(fixture("qwen2-gguf-kquant/model-q4_k-q6_k.gguf"));
  EXPECT_EQ(checkpoint.find("output.weight")->storage_name(), "q6_k");
  EXPECT_EQ(checkpoint.find("blk.0.attn_v.weight")->storage_name(), "q6_k");
  EXPECT_EQ(checkpoint.find("blk.1.attn_v.weight")->storage_name(), "q4_k");
  EXPECT_EQ(checkpoint.find("output_norm.weight")->storage_name(), "f32");
  EXPECT_EQ(checkpoint.config()["general.architecture"], "qwen2");
  EXPECT_FALSE(checkpoint.config().contains("tokenizer.ggml.tokens"));
}

TEST(CheckpointTest, DirectoriesWithoutWeights) {
  TemporaryDirectory directory;
  expect_error(Checkpoint::open(directory.path()), Code::kBadInput, {"config.json"});
  directory.write("config.json", "[1]");
  expect_error(Checkpoint::open(directory.path()), Code::kBadInput, {"config.json", "not a JSON object"});
  directory.write("config.json", kConfig);
  const Checkpoint bare = open(directory.path());
  EXPECT_FALSE(bare.has_weights());
  EXPECT_TRUE(bare.warnings().empty());
  EXPECT_EQ(bare.config()["hidden_size"], 4);
  directory.write("pytorch_model.bin", "x");
  EXPECT_EQ(open(directory.path()).warnings().size(), 1u);
  directory.write("adapter.safetensors", one_tensor("a"));
  expect_error(Checkpoint::open(directory.path()), Code::kBadInput,
               {"'adapter.safetensors'", "model.safetensors.index.json"});
  expect_error(Checkpoint::open(directory.path() + "/nothing"), Code::kBadInput, {"nothing", "No such file"});
  expect_error(Checkpoint::open(directory.path() + "/config.json"), Code::kBadInput,
               {"config.json", "not a GGUF file"});
}

class Shards : public testing::Test {
 protected:
  Shards() { directory_.write("config.json", kConfig); }
  Result<Checkpoint> open_with(const std::string& index) {
    directory_.write("model.safetensors.index.json", index);
    return Checkpoint::open(directory_.path());
  }
  TemporaryDirectory directory_;
};

TEST_F(Shards, EveryTensorMustBeWhereTheIndexSays) {
  directory_.write("one.safetensors", one_tensor("a"));
  directory_.write("two.safetensors", one_tensor("b"));
  EXPECT_TRUE(open_with(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})").ok());
  expect_error(open_with(R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})"), Code::kBadInput,
               {"'b'", "'one.safetensors'", "does not hold it"});
  expect_error(open_with(R"({"weight_map":{"a":"three.safetensors"}})"), Code::kBadInput,
               {"three.safetensors", "index.json"});
  const auto partly = open_with(R"({"weight_map":{"a":"one.safetensors"}})");
  ASSERT_TRUE(partly.ok());
  EXPECT_EQ(partly->tensors().size(), 1u);
  directory_.write("two.safetensors", one_tensor("a"));
  const auto unlisted = open_with(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  expect_error(unlisted, Code::kBadInput, {"'b'"});
}

// Left-overs of another run may hold the same names; the index decides.
TEST_F(Shards, TheIndexChoosesBetweenShards) {
  directory_.write("one.safetensors",
                   safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                    R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                                    raw(7.f) + raw(8.f)));
  directory_.write("two.safetensors", one_tensor("a"));
  const auto checkpoint = open_with(R"({"weight_map":{"a":"two.safetensors","b":"one.safetensors"}})");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
  EXPECT_EQ(checkpoint->tensors().size(), 2u);
  EXPECT_EQ(checkpoint->warnings().size(), 1u);
  EXPECT_EQ(checkpoint->matrix("a").value().decode()[0], 1.5f);
}

TEST_F(Shards, FileNamesStayInTheDirectory) {
  directory_.write("one.safetensors", one_tensor("a"));
  for (const char* name : {"../one.safetensors", "/one.safetensors", "..", ".", "", "sub/one.safetensors",
                           "a\\\\b", "one\\u0000"})
    expect_error(open_with(fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name)), Code::kBadInput,
                 {"weight_map", "'a'", "same directory"});
}

TEST_F(Shards, IndexesOfAnotherForm) {
  for (const char* index :
       {"", "[]", "{}", "1", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})", R"({"weight_map":"a"})",
        R"({"weight_map":{"a":{}}})", R"({"weight_map":{"a":"x","a":"x"}})", R"({"weight_map":{)"})
    EXPECT_FALSE(open_with(index).ok()) << index;
  directory_.write("one.safetensors", one_tensor("a"));
  EXPECT_TRUE(
      open_with(R"({"metadata":{"total_size":4,"more":[1,{"x":null}]},"weight_map":{"a":"one.safetensors"}})")
          .ok());
}

TEST_F(Shards, TheSingleFileComesFirst) {
  directory_.write("model.safetensors", one_tensor("a"));
  const auto both = open_with(R"({"weight_map":{"b":"two.safetensors"}})");
  ASSERT_TRUE(both.ok()) << both.error().message();
  EXPECT_EQ(both->warnings().size(), 1u);
  EXPECT_NE(both->find("a"), nullptr);
}

TEST(CheckpointTest, StacksAndStorageThatIsNoMatrix) {
  TemporaryDirectory directory;
  directory.write("config.json", kConfig);
  directory.write(
      "model.safetensors",
      safetensors_file(R"({"stack":{"dtype":"F32","shape":[3,1,2],"data_offsets":[0,24]},)"
                       R"("codes":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[24,28]},)"
                       R"("empty":{"dtype":"F32","shape":[4611686018427387904,0],"data_offsets":[28,28]},)"
                       R"("cube":{"dtype":"F32","shape":[1,1,1,1],"data_offsets":[28,32]}})",
                       raw(0.f) + raw(1.f) + raw(2.f) + raw(3.f) + raw(4.f) + raw(5.f) + "1234" + raw(6.f)));
  const Checkpoint checkpoint = open(directory.path());
  const auto last = checkpoint.matrix("stack", 2);
  ASSERT_TRUE(last.ok()) << last.error().message();
  EXPECT_EQ(last->decode(), (std::vector<float>{4.f, 5.f}));
  expect_error(checkpoint.matrix("stack", 3), Code::kBadInput, {"'stack'", "[3, 1, 2]"});
  expect_error(checkpoint.matrix("stack", -1), Code::kBadInput, {"'stack'"});
  expect_error(checkpoint.matrix("codes"), Code::kUnsupported, {"'codes'", "F8_E4M3"});
  expect_error(checkpoint.matrix("empty"), Code::kUnsupported, {"'empty'"});
  expect_error(checkpoint.matrix("cube"), Code::kUnsupported, {"'cube'", "[1, 1, 1, 1]"});
}

// A view keeps the file's bytes alive after the checkpoint is gone.
TEST(CheckpointTest, ViewsOutliveTheCheckpoint) {
  MatrixView view;
  {
    const Checkpoint checkpoint = open(fixture("qwen3-dense"));
    view = checkpoint.matrix("model.norm.weight").value();
  }
  for (const float value : view.decode()) EXPECT_TRUE(std::isfinite(value));
}

TEST(CheckpointTest, TextFilesOfADirectory) {
  TemporaryDirectory directory;
  directory.write("config.json", kConfig);
  directory.write("tokenizer.json", "{}");
  directory.write("chat_template.jinja", "{{ x }}");
  directory.write("README.md", "no");
  const auto files = open(directory.path()).text_files();
  ASSERT_TRUE(files.ok());
  EXPECT_EQ(*files, (std::map<std::string, std::string>{{"chat_template.jinja", "{{ x }}"},
                                                        {"tokenizer.json", "{}"}}));
}

// What a model without a template is talked to with follows from what it is.
TEST(CheckpointTest, TextFilesWithoutATemplateNameTheModelType) {
  TemporaryDirectory directory;
  directory.write("config.json", R"({"model_type": "newest"})");
  directory.write("tokenizer.json", "{}");
  directory.write("tokenizer_config.json", "{}");
  EXPECT_EQ(open(directory.path()).text_files().value().at("model_type"), "newest");
  directory.write("tokenizer_config.json", R"({"chat_template": "{{ x }}"})");
  EXPECT_FALSE(open(directory.path()).text_files().value().contains("model_type"));
  directory.write("tokenizer_config.json", "{}");
  directory.write("chat_format", "v4\n");
  const auto files = open(directory.path()).text_files().value();
  EXPECT_FALSE(files.contains("model_type"));
  EXPECT_EQ(files.at("chat_format"), "v4\n");
}

TEST(CheckpointTest, TextFilesOfAGguf) {
  TemporaryDirectory directory;
  GgufBuilder b;
  b.string("general.architecture", "llama");
  EXPECT_TRUE(open(directory.write("bare.gguf", b.file())).text_files().value().empty());
  b.u32("tokenizer.ggml.bos_token_id", 0)
      .u32("tokenizer.ggml.eos_token_id", 1)
      .u32("tokenizer.ggml.eot_token_id", 0);
  b.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "qwen2");
  b.pair("tokenizer.ggml.tokens", 9, raw<uint32_t>(8) + raw<uint64_t>(2) + b.text("a") + b.text("<end>"));
  b.string("tokenizer.huggingface.json", "{\"from\":\"the file\"}");
  const auto files = open(directory.write("model.gguf", b.file())).text_files();
  ASSERT_TRUE(files.ok()) << files.error().message();
  EXPECT_EQ(files->at("tokenizer.json"), "{\"from\":\"the file\"}");
  EXPECT_EQ(files->count("tokenizer_config.json"), 1u);
  const auto generation = parse_json(files->at("generation_config.json"), "generation");
  ASSERT_TRUE(generation.ok());
  EXPECT_EQ(dump_json(*generation, -1), R"({"bos_token_id":0,"eos_token_id":[1,0]})");
}

class SplitGguf : public testing::Test {
 protected:
  static GgufBuilder part(uint16_t number, uint16_t count, int32_t tensors) {
    GgufBuilder b;
    if (number == 0) b.string("general.architecture", "llama");
    b.pair("split.no", 2, raw(number))
        .pair("split.count", 2, raw(count))
        .pair("split.tensors.count", 5, raw(tensors));
    b.info(fmt::format("t{}", number), {1}, 0, 0);
    b.data = raw(static_cast<float>(number));
    return b;
  }
  std::string path(int number) const {
    return fmt::format("{}/m-{:05}-of-00003.gguf", directory_.path(), number);
  }
  void write(int file, const GgufBuilder& b) { directory_.write(base_name(path(file)), b.file()); }
  TemporaryDirectory directory_;
};

TEST_F(SplitGguf, AnyPartOpensTheWhole) {
  for (int i = 0; i < 3; ++i) write(i + 1, part(static_cast<uint16_t>(i), 3, 3));
  for (int named = 1; named <= 3; ++named) {
    const Checkpoint checkpoint = open(path(named));
    EXPECT_EQ(checkpoint.tensors().size(), 3u);
    EXPECT_EQ(checkpoint.files().size(), 3u);
    EXPECT_EQ(checkpoint.config()["general.architecture"], "llama");
    const auto view = checkpoint.matrix("t2");
    ASSERT_TRUE(view.ok());
    EXPECT_EQ(view->decode()[0], 2.0f);
  }
}

TEST_F(SplitGguf, PartsThatDoNotBelongTogether) {
  for (int i = 0; i < 3; ++i) write(i + 1, part(static_cast<uint16_t>(i), 3, 4));
  expect_error(Checkpoint::open(path(1)), Code::kBadInput, {"split.tensors.count", "4", "3"});
  write(3, part(1, 3, 4));
  expect_error(Checkpoint::open(path(1)), Code::kBadInput, {"00003-of-00003", "part 1 of 3"});
  write(3, part(0, 3, 4));
  (void)remove_tree(path(3));
  expect_error(Checkpoint::open(path(1)), Code::kBadInput, {"part 3 of 3", "No such file"});
  write(2, part(1, 2, 2));
  expect_error(Checkpoint::open(path(2)), Code::kBadInput, {"of-00002.gguf"});
  GgufBuilder same = part(2, 3, 3);
  same.infos.clear(), same.tensor_count = 0;
  same.info("t0", {1}, 0, 0);
  for (int i = 0; i < 2; ++i) write(i + 1, part(static_cast<uint16_t>(i), 3, 3));
  write(3, same);
  expect_error(Checkpoint::open(path(1)), Code::kBadInput, {"'t0'", "twice"});
  const std::string odd = directory_.write("odd.gguf", part(0, 3, 3).file());
  expect_error(Checkpoint::open(odd), Code::kBadInput, {"odd.gguf", "-00001-of-00003.gguf"});
}

TEST(CheckpointTest, GgufWithoutAnArchitecture) {
  TemporaryDirectory directory;
  expect_error(Checkpoint::open(directory.write("x.gguf", GgufBuilder().u32("n", 1).file())), Code::kBadInput,
               {"general.architecture"});
  GgufBuilder twice;
  twice.string("general.architecture", "llama").info("a", {8}, 0, 0).info("a", {8}, 0, 32);
  twice.data = std::string(64, 'x');
  expect_error(Checkpoint::open(directory.write("y.gguf", twice.file())), Code::kBadInput, {"'a'", "twice"});
}

}  // namespace
}  // namespace fettle
