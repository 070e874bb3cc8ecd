#include "checkpoint/gguf.h"

#include <algorithm>
#include <iterator>

#include "builders.h"

namespace fettle {
namespace {

Result<GgufFile> parse(const std::string& file, GgufTokenizer* tokenizer = nullptr) {
  return parse_gguf(as_bytes(file), "file", tokenizer);
}
Result<GgufFile> parse(const GgufBuilder& builder) { return parse(builder.file()); }

TEST(Gguf, ReadsEveryTypeOfMetadata) {
  GgufBuilder b;
  b.pair("u8", 0, raw<uint8_t>(200)).pair("i8", 1, raw<int8_t>(-3)).pair("u16", 2, raw<uint16_t>(60000));
  b.pair("i16", 3, raw<int16_t>(-300))
      .pair("u32", 4, raw<uint32_t>(4000000000u))
      .pair("i32", 5, raw<int32_t>(-70000));
  b.pair("f32", 6, raw(1e-6f)).pair("bool", 7, raw<uint8_t>(1)).string("string", "text");
  b.pair("u64", 10, raw<uint64_t>(1)).pair("i64", 11, raw<int64_t>(-5'000'000'000)).pair("f64", 12, raw(0.1));
  b.pair("list", 9, raw<uint32_t>(5) + raw<uint64_t>(2) + raw<int32_t>(1) + raw<int32_t>(-2));
  b.pair("lists", 9,
         raw<uint32_t>(9) + raw<uint64_t>(2) + raw<uint32_t>(8) + raw<uint64_t>(1) + GgufBuilder::text("x") +
             raw<uint32_t>(0) + raw<uint64_t>(0));
  const auto file = parse(b);
  ASSERT_TRUE(file.ok()) << file.error().message();
  EXPECT_EQ(
      dump_json(file->metadata, -1),
      R"({"u8":200,"i8":-3,"u16":60000,"i16":-300,"u32":4000000000,"i32":-70000,"f32":1e-06,"bool":true,)"
      R"("string":"text","u64":1,"i64":-5000000000,"f64":0.1,"list":[1,-2],"lists":[["x"],[]]})");
}

TEST(Gguf, PlacesTensors) {
  GgufBuilder b;
  b.info("second", {256, 2}, 12, 32).info("first", {3}, 0, 0);
  b.data = std::string(32 + 288, 'x');
  for (const uint32_t version : {2u, 3u}) {
    b.version = version;
    const auto file = parse(b);
    ASSERT_TRUE(file.ok()) << file.error().message();
    ASSERT_EQ(file->tensors.size(), 2u);
    EXPECT_EQ(file->tensors[0].name, "first");
    EXPECT_EQ(file->tensors[0].bytes, 12u);
    EXPECT_EQ(file->tensors[1].shape, (Shape{2, 256}));
    EXPECT_EQ(file->tensors[1].scheme, Scheme::kQ4_K);
    EXPECT_EQ(file->tensors[1].bytes, 288u);
    EXPECT_EQ(file->tensors[1].offset - file->tensors[0].offset, 32u);
    EXPECT_EQ(file->tensors[0].offset % 32, 0u);
  }
}

TEST(Gguf, HonoursTheAlignment) {
  GgufBuilder b;
  b.alignment = 8;
  b.u32("general.alignment", 8).info("a", {1}, 0, 0).info("b", {1}, 0, 8);
  b.data = std::string(12, 'x');
  EXPECT_TRUE(parse(b).ok());
  for (const uint32_t wrong : {0u, 4u, 12u}) {
    GgufBuilder c;
    c.u32("general.alignment", wrong).info("a", {1}, 0, 0);
    expect_error(parse(c), Code::kBadInput, {"general.alignment", "multiple of 8"});
  }
}

TEST(Gguf, EveryTypeIdIsReadOrRefusedByName) {
  const std::pair<uint32_t, Scheme> known[] = {
      {0, Scheme::kF32},     {1, Scheme::kF16},   {2, Scheme::kQ4_0},  {3, Scheme::kQ4_1},
      {6, Scheme::kQ5_0},    {7, Scheme::kQ5_1},  {8, Scheme::kQ8_0},  {10, Scheme::kQ2_K},
      {11, Scheme::kQ3_K},   {12, Scheme::kQ4_K}, {13, Scheme::kQ5_K}, {14, Scheme::kQ6_K},
      {20, Scheme::kIQ4_NL}, {30, Scheme::kBF16}, {39, Scheme::kMXFP4}};
  for (uint32_t id = 0; id < 64; ++id) {
    GgufBuilder b;
    b.info("blk.0.w", {256}, id, 0);
    b.data = std::string(1024, 'x');
    const auto file = parse(b);
    const auto* entry =
        std::find_if(std::begin(known), std::end(known), [id](const auto& k) { return k.first == id; });
    if (id == 26 || id == 27) {  // whole numbers
      b.data = std::string(id == 26 ? 1024 : 2048, 'x');
      const auto whole = parse(b);
      ASSERT_TRUE(whole.ok()) << whole.error().message();
      EXPECT_EQ(whole->tensors[0].dtype, id == 26 ? DType::kI32 : DType::kI64);
      EXPECT_FALSE(whole->tensors[0].scheme);
    } else if (entry == std::end(known)) {
      expect_error(file, Code::kUnsupported, {"'blk.0.w'", fmt::format("type {} ", id)});
    } else {
      ASSERT_TRUE(file.ok()) << file.error().message();
      EXPECT_EQ(file->tensors[0].scheme, entry->second);
    }
  }
  GgufBuilder b;
  expect_error(parse(b.info("w", {256}, 16, 0)), Code::kUnsupported, {"IQ2_XXS"});
}

TEST(Gguf, RefusesOtherFilesAndVersions) {
  expect_error(parse(std::string()), Code::kBadInput, {"magic"});
  expect_error(parse(std::string("GGML\3\0\0\0", 8)), Code::kBadInput, {"GGUF"});
  GgufBuilder b;
  b.version = 1;
  expect_error(parse(b), Code::kUnsupported, {"version 1"});
  b.version = 4;
  expect_error(parse(b), Code::kUnsupported, {"version 4"});
  b.version = 0x03000000;
  expect_error(parse(b), Code::kUnsupported, {"big-endian"});
}

// A whole file cut at every byte is refused at every byte, and so is one whose tail is missing.
TEST(Gguf, RefusesEveryTruncation) {
  GgufBuilder b;
  b.string("general.architecture", "llama")
      .u32("n", 1)
      .pair("list", 9, raw<uint32_t>(8) + raw<uint64_t>(1) + b.text("x"));
  b.info("a", {32}, 8, 0).info("b", {4, 4}, 0, 64);
  b.data = std::string(64 + 64, 'x');
  const std::string file = b.file();
  ASSERT_TRUE(parse(file).ok());
  for (size_t length = 0; length < file.size(); ++length)
    EXPECT_FALSE(parse(file.substr(0, length)).ok()) << length;
}

TEST(Gguf, RefusesCountsAndLengthsThatLie) {
  GgufBuilder b;
  b.tensor_count = UINT64_MAX;
  expect_error(parse(b), Code::kBadInput, {"tensors claimed"});
  b.tensor_count = 0, b.pair_count = UINT64_MAX;
  expect_error(parse(b), Code::kBadInput, {"metadata fields claimed"});
  b.pair_count = 1;
  b.pairs = raw<uint64_t>(UINT64_MAX);
  expect_error(parse(b), Code::kBadInput, {"name of a metadata field"});
  for (const uint32_t element : {0u, 7u, 8u, 9u, 12u}) {
    GgufBuilder c;
    c.pair("list", 9, raw(element) + raw<uint64_t>(uint64_t{1} << 60));
    expect_error(parse(c), Code::kBadInput, {"'list'", "elements"});
  }
  GgufBuilder many;
  many.pair("list", 9, raw<uint32_t>(0) + raw<uint64_t>(5'000'000) + std::string(5'000'000, 'x'));
  expect_error(parse(many), Code::kBadInput, {"'list'", "at most"});
}

TEST(Gguf, RefusesDeepArraysUnknownTypesAndBadTruth) {
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += raw<uint32_t>(9) + raw<uint64_t>(1);
  GgufBuilder b;
  expect_error(parse(b.pair("deep", 9, deep)), Code::kBadInput, {"'deep'", "deeper"});
  GgufBuilder c;
  expect_error(parse(c.pair("odd", 13, "")), Code::kBadInput, {"'odd'", "type 13"});
  GgufBuilder d;
  expect_error(parse(d.pair("truth", 7, raw<uint8_t>(2))), Code::kBadInput, {"'truth'", "0 or 1"});
}

TEST(Gguf, RefusesDuplicateAndEmptyFields) {
  GgufBuilder b;
  expect_error(parse(b.u32("n", 1).u32("n", 1)), Code::kBadInput, {"'n'", "twice"});
  GgufBuilder c;
  expect_error(parse(c.u32("", 1)), Code::kBadInput, {"name of 0 bytes"});
}

TEST(Gguf, RefusesTensorsThatDoNotFit) {
  const auto one = [](std::initializer_list<uint64_t> dims, uint32_t type, uint64_t offset = 0) {
    GgufBuilder b;
    b.info("w", dims, type, offset);
    b.data = std::string(1024, 'x');
    return parse(b);
  };
  EXPECT_TRUE(one({256}, 0).ok());
  expect_error(one({257}, 0), Code::kBadInput, {"'w'", "1028 bytes", "cut short"});
  expect_error(one({48}, 2), Code::kBadInput, {"'w'", "multiple of 32"});
  expect_error(one({0, 4}, 0), Code::kBadInput, {"'w'", "above zero"});
  expect_error(one({1, 1, 1, 1, 1}, 0), Code::kBadInput, {"'w'", "5 dimensions"});
  expect_error(one({UINT64_MAX}, 0), Code::kBadInput, {"'w'"});
  expect_error(one({uint64_t{1} << 32, uint64_t{1} << 32}, 0), Code::kBadInput, {"'w'"});
  expect_error(one({uint64_t{1} << 62}, 0), Code::kBadInput, {"'w'"});
  expect_error(one({uint64_t{1} << 61, 3}, 0), Code::kBadInput, {"'w'"});
  expect_error(one({4}, 0, 32), Code::kBadInput, {"'w'", "hole"});
  expect_error(one({4}, 0, UINT64_MAX - 31), Code::kBadInput, {"'w'"});
}

TEST(Gguf, RefusesOverlapAndHoles) {
  for (const auto& [offset, word] :
       {std::pair<uint64_t, const char*>{32, "overlaps"}, {0, "overlaps"}, {96, "hole"}, {65, "hole"}}) {
    GgufBuilder b;
    b.info("a", {16}, 0, 0).info("b", {4}, 0, offset);
    b.data = std::string(256, 'x');
    expect_error(parse(b), Code::kBadInput, {word});
  }
}

TEST(Gguf, TokenizerArraysGoToTheTokenizerOnly) {
  GgufBuilder b;
  b.string("tokenizer.ggml.model", "gpt2")
      .string("tokenizer.ggml.pre", "qwen2")
      .u32("tokenizer.ggml.eos_token_id", 1);
  b.pair("tokenizer.ggml.tokens", 9, raw<uint32_t>(8) + raw<uint64_t>(2) + b.text("a") + b.text("b"));
  b.pair("tokenizer.ggml.token_type", 9,
         raw<uint32_t>(5) + raw<uint64_t>(2) + raw<int32_t>(1) + raw<int32_t>(3));
  b.pair("tokenizer.ggml.scores", 9, raw<uint32_t>(6) + raw<uint64_t>(1) + raw(0.5f));
  b.pair("tokenizer.ggml.merges", 9, raw<uint32_t>(8) + raw<uint64_t>(1) + b.text("a b"));
  b.pair("tokenizer.ggml.add_bos_token", 7, raw<uint8_t>(0));
  GgufTokenizer tokenizer;
  const auto file = parse(b.file(), &tokenizer);
  ASSERT_TRUE(file.ok()) << file.error().message();
  EXPECT_EQ(tokenizer.model, "gpt2");
  EXPECT_EQ(tokenizer.pre, "qwen2");
  EXPECT_EQ(tokenizer.tokens, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(tokenizer.token_type, (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(tokenizer.merges, (std::vector<std::string>{"a b"}));
  EXPECT_EQ(tokenizer.eos, 1);
  EXPECT_EQ(tokenizer.bos, std::nullopt);
  EXPECT_EQ(tokenizer.add_bos, false);
  for (const char* big : {"tokens", "token_type", "scores", "merges"})
    EXPECT_FALSE(file->metadata.contains(std::string("tokenizer.ggml.") + big)) << big;
  EXPECT_TRUE(file->metadata.contains("tokenizer.ggml.pre"));

  GgufBuilder wrong;
  wrong.pair("tokenizer.ggml.tokens", 9, raw<uint32_t>(0) + raw<uint64_t>(1) + raw<uint8_t>(1));
  EXPECT_TRUE(parse(wrong.file()).ok());
  expect_error(parse(wrong.file(), &tokenizer), Code::kBadInput, {"tokenizer.ggml.tokens", "string"});
}

}  // namespace
}  // namespace fettle
