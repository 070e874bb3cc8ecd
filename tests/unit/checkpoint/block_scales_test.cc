// Weights stored as codes and scales apart: what is read, and what is refused.
#include "checkpoint/block_scales.h"

#include <cmath>
#include <cstring>
#include <map>

#include "builders.h"
#include "checkpoint/safetensors.h"
#include "tensor/numbers.h"

namespace fettle {
namespace {

constexpr char kBlocks[] = R"({"model_type":"m","quantization_config":{"weight_block_size":[128,128]}})";

// A tensor of a file to be written: its bytes are a run of `fill` unless they are given.
struct Part {
  std::string name, dtype;
  Shape shape;
  std::string data;
};

std::string file_of(const std::vector<Part>& parts) {
  std::string header, data;
  for (const Part& p : parts) {
    header +=
        fmt::format(R"({}"{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", header.empty() ? "" : ",",
                    p.name, p.dtype, shape_text(p.shape), data.size(), data.size() + p.data.size());
    data += p.data;
  }
  return safetensors_file("{" + header + "}", data);
}

std::string bytes_counting(size_t count, unsigned modulo = 256) {
  std::string out(count, '\0');
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<char>(i % modulo);
  return out;
}
std::string floats(std::initializer_list<float> values) {
  std::string out;
  for (const float v : values) out += raw(v);
  return out;
}

class BlockScales : public testing::Test {
 protected:
  Result<Checkpoint> open(const std::vector<Part>& parts, const std::string& config = kBlocks) {
    directory_.write("config.json", config);
    directory_.write("model.safetensors", file_of(parts));
    return Checkpoint::open(directory_.path());
  }
  TemporaryDirectory directory_;
};

// 130 x 130: two scales down, two across, the second of each for two rows or columns.
Part edge_codes() { return {"a.weight", "F8_E4M3", {130, 130}, bytes_counting(130 * 130, 0x7f)}; }
Part edge_scales(const char* name = "a.weight_scale_inv") {
  return {name, "F32", {2, 2}, floats({1, 2, 4, 8})};
}

void expect_edges(const Checkpoint& checkpoint) {
  const auto view = checkpoint.matrix("a.weight");
  ASSERT_TRUE(view.ok()) << view.error().message();
  EXPECT_EQ(view->scheme, Scheme::kF8B128);
  const std::vector<float> w = view->decode();
  const float scales[2][2] = {{1, 2}, {4, 8}};
  for (int64_t r = 0; r < 130; ++r)
    for (int64_t c = 0; c < 130; ++c)
      ASSERT_EQ(w[static_cast<size_t>(r * 130 + c)],
                e4m3_to_f32(static_cast<uint8_t>((r * 130 + c) % 0x7f)) * scales[r / 128][c / 128])
          << r << ", " << c;
}

TEST_F(BlockScales, BlocksBeginAtRowZero) {
  const auto checkpoint = open({edge_codes(), edge_scales()});
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
  expect_edges(*checkpoint);
  ASSERT_EQ(checkpoint->tensors().size(), 1u);
  const StoredTensor& tensor = *checkpoint->find("a.weight");
  EXPECT_EQ(tensor.scheme, Scheme::kF8B128);
  EXPECT_EQ(tensor.bytes, 130u * 130 + 16);
  EXPECT_EQ(tensor.storage_name(), "f8b128");
  EXPECT_EQ(checkpoint->find("a.weight_scale_inv"), nullptr);
}

// Canonical bytes: codes, padding, the row's scales in fp32.
TEST_F(BlockScales, RowsAreGathered) {
  const auto checkpoint = open({edge_codes(), edge_scales()});
  ASSERT_TRUE(checkpoint.ok());
  const MatrixView view = checkpoint->matrix("a.weight").value();
  ASSERT_EQ(view.row_stride(), 132 + 8);
  std::vector<std::byte> rows(3 * 140, std::byte{0xee});
  view.copy_rows(127, 3, rows.data());
  const std::string codes = edge_codes().data;
  for (int64_t r = 0; r < 3; ++r) {
    const std::byte* row = rows.data() + r * 140;
    EXPECT_EQ(std::memcmp(row, codes.data() + (127 + r) * 130, 130), 0);
    EXPECT_EQ(std::memcmp(row + 130, "\0\0", 2), 0);
    EXPECT_EQ(std::memcmp(row + 132, (r == 0 ? floats({1, 2}) : floats({4, 8})).data(), 8), 0);
  }
}

TEST_F(BlockScales, TheScalesMayLieInAnotherShard) {
  directory_.write("config.json", kBlocks);
  directory_.write("one.safetensors", file_of({edge_codes()}));
  directory_.write("two.safetensors", file_of({edge_scales()}));
  directory_.write("model.safetensors.index.json",
                   R"({"weight_map":{"a.weight":"one.safetensors","a.weight_scale_inv":"two.safetensors"}})");
  MatrixView view;
  {
    const auto checkpoint = Checkpoint::open(directory_.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
    EXPECT_EQ(checkpoint->tensors().size(), 1u);
    expect_edges(*checkpoint);
    view = checkpoint->matrix("a.weight").value();
  }
  EXPECT_EQ(view.decode()[129 * 130 + 1], e4m3_to_f32((129 * 130 + 1) % 0x7f) * 4);  // both files are held
}

TEST_F(BlockScales, EveryTypeOfScale) {
  const Part codes{"a.weight", "F8_E4M3", {2, 4}, "\x38\x40\x01\x7e\xb8\xc0\x81\xfe"};  // 1 2 2^-9 448
  const std::vector<std::pair<Part, float>> scales = {
      {{"a.weight_scale_inv", "F32", {1, 1}, raw(0.3f)}, 0.3f},
      {{"a.weight_scale_inv", "BF16", {1, 1}, raw(uint16_t{0x3e9a})}, bf16_to_f32(0x3e9a)},
      {{"a.scale", "F32", {1, 1}, raw(0.3f)}, 0.3f},
      {{"a.scale", "F8_E8M0", {1, 1}, raw(uint8_t{125})}, 0.25f},
      {{"a.scale", "F8_E8M0", {1, 1}, raw(uint8_t{0})}, 0x1p-127f}};
  for (const auto& [part, value] : scales) {
    const auto checkpoint = open({codes, part});
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
    EXPECT_EQ(checkpoint->matrix("a.weight").value().decode(),
              (std::vector<float>{value, 2 * value, 0x1p-9f * value, 448 * value, -value, -2 * value,
                                  -0x1p-9f * value, -448 * value}))
        << part.name << " " << part.dtype;
  }
}

// NaN is a value like others, as in the block formats; nothing else in the matrix is touched.
TEST_F(BlockScales, NanStaysNan) {
  auto codes = edge_codes();
  codes.data[5] = '\x7f';
  for (const bool exponents : {false, true}) {
    Part scales = edge_scales();
    scales.data = floats({1, 2, std::nanf(""), INFINITY});
    if (exponents) scales = {"a.scale", "F8_E8M0", {2, 2}, "\x7f\x80\xff\x7f"};
    const auto checkpoint = open({codes, scales});
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
    const std::vector<float> w = checkpoint->matrix("a.weight").value().decode();
    for (size_t i = 0; i < w.size(); ++i) {
      const bool nan_scale = i / 130 >= 128 && i % 130 < 128;
      const bool zero_by_infinity = !exponents && i / 130 >= 128 && !nan_scale && i % 0x7f == 0;
      ASSERT_EQ(std::isnan(w[i]), i == 5 || nan_scale || zero_by_infinity) << i;
    }
  }
}

TEST_F(BlockScales, StacksOfMatrices) {
  const auto checkpoint =
      open({{"experts.up_proj", "F8_E4M3", {3, 2, 130}, bytes_counting(3 * 2 * 130, 0x7f)},
            {"experts.up_proj_scale_inv", "F32", {3, 1, 2}, floats({1, 2, 4, 8, 16, 32})},
            {"fp4.weight", "I8", {2, 2, 32}, bytes_counting(128)},
            {"fp4.scale", "F8_E8M0", {2, 2, 2}, bytes_counting(8)}});
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
  EXPECT_EQ(checkpoint->find("fp4.weight")->shape, (Shape{2, 2, 64}));
  const auto last = checkpoint->matrix("experts.up_proj", 2);
  ASSERT_TRUE(last.ok()) << last.error().message();
  EXPECT_EQ(last->decode()[131], e4m3_to_f32((2 * 260 + 131) % 0x7f) * 16);
  EXPECT_EQ(last->decode()[259], e4m3_to_f32((2 * 260 + 259) % 0x7f) * 32);
  const std::vector<float> fp4 = checkpoint->matrix("fp4.weight", 1).value().decode();
  // Row 1 of matrix 1: bytes 96.., scales 6 and 7. Its element 33 is the high nibble of byte 112.
  EXPECT_EQ(fp4[64 + 33], e2m1_to_f32(112 >> 4) * e8m0_to_f32(7));
  expect_error(checkpoint->matrix("experts.up_proj", 3), Code::kBadInput,
               {"'experts.up_proj'", "[3, 2, 130]"});
}

// Every byte of two codes under every exponent: the values of the stored form, through the canonical one.
TEST_F(BlockScales, EveryFourBitCodeUnderEveryScale) {
  std::string codes;
  for (int row = 0; row < 256; ++row) codes += bytes_counting(256);
  std::string scales;
  for (int row = 0; row < 256; ++row) scales += std::string(16, static_cast<char>(row));
  const auto checkpoint =
      open({{"a.weight", "I8", {256, 256}, codes}, {"a.scale", "F8_E8M0", {256, 16}, scales}},
           R"({"model_type":"m"})");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
  const auto view = checkpoint->matrix("a.weight");
  ASSERT_TRUE(view.ok()) << view.error().message();
  EXPECT_EQ(view->scheme, Scheme::kMXFP4);
  ASSERT_EQ(view->cols, 512);
  EXPECT_EQ(checkpoint->find("a.weight")->storage_name(), "mxfp4");
  std::vector<float> row(512);
  for (int r = 0; r < 256; ++r) {
    view->decode_row(r, row.data());
    const float scale = e8m0_to_f32(static_cast<uint8_t>(r));
    for (int c = 0; c < 512; ++c) {
      const float expected = e2m1_to_f32(static_cast<uint8_t>(c / 2 >> (c % 2 * 4) & 15)) * scale;
      const float found = row[static_cast<size_t>(c)];
      ASSERT_TRUE(r == 255 ? std::isnan(found) : found == expected) << "scale " << r << " column " << c;
    }
  }
}

TEST_F(BlockScales, MissingOrMisshapenScales) {
  expect_error(
      open({edge_codes()}), Code::kUnsupported,
      {"model.safetensors", "'a.weight'", "F8_E4M3 [130, 130]", "'a.weight_scale_inv'", "'a.scale'"});
  const std::vector<Shape> shapes = {{4}, {}, {1, 4}, {2, 2, 1}, {4, 1}};
  for (const Shape& shape : shapes) {
    const std::string data = shape.empty() ? raw(1.f) : floats({1, 2, 4, 8});
    expect_error(open({edge_codes(), {"a.weight_scale_inv", "F32", shape, data}}), Code::kBadInput,
                 {"model.safetensors", "'a.weight_scale_inv'", shape_text(shape), "expected [2, 2]",
                  "'a.weight'", "[130, 130]"});
  }
  expect_error(open({edge_codes(), {"a.weight_scale_inv", "F32", {0, 2}, ""}}), Code::kBadInput,
               {"'a.weight_scale_inv'", "[0, 2]"});
  expect_error(open({edge_codes(), {"a.weight_scale_inv", "F16", {2, 2}, "12345678"}}), Code::kBadInput,
               {"'a.weight_scale_inv'", "F16", "expected F32 or BF16"});
  expect_error(open({edge_codes(), {"a.weight_scale_inv", "F8_E8M0", {2, 2}, "1234"}}), Code::kBadInput,
               {"'a.weight_scale_inv'", "F8_E8M0"});
  expect_error(open({edge_codes(), {"a.scale", "BF16", {2, 2}, "12345678"}}), Code::kBadInput,
               {"'a.scale'", "BF16", "expected F32 or F8_E8M0"});
  expect_error(open({edge_codes(), edge_scales(), edge_scales("a.scale")}), Code::kBadInput,
               {"'a.weight'", "two tensors of scales"});
  expect_error(open({{"a.weight", "F8_E4M3", {4}, "1234"}, {"a.scale", "F32", {1}, raw(1.f)}}),
               Code::kBadInput, {"'a.weight'", "[4]"});
}

TEST_F(BlockScales, HugeAndEmptyShapes) {
  expect_error(open({{"a.weight", "F8_E4M3", {int64_t{1} << 62, 0}, ""},
                     {"a.scale", "F32", {int64_t{1} << 55, 0}, ""}}),
               Code::kBadInput, {"'a.weight'", "no dimension zero"});
  expect_error(open({{"a.weight", "I8", {0, INT64_MAX}, ""}, {"a.scale", "F8_E8M0", {0, 1}, ""}}),
               Code::kBadInput, {"'a.weight'"});
  expect_error(open({{"a.weight", "I8", {}, "1"}, {"a.scale", "F8_E8M0", {}, "1"}}), Code::kBadInput,
               {"'a.weight'"});
  expect_error(open({{"a.weight", "I8", {2, 24}, bytes_counting(48)}, {"a.scale", "F8_E8M0", {2, 1}, "12"}}),
               Code::kBadInput, {"'a.weight'", "[2, 24]", "multiple of 16"});
  expect_error(open({{"a.weight", "I8", {2, 16}, bytes_counting(32)}, {"a.scale", "F8_E8M0", {1, 2}, "12"}}),
               Code::kBadInput, {"'a.scale'", "[1, 2]", "expected [2, 1]"});
}

TEST_F(BlockScales, OtherBlockSizesAreRefusedByName) {
  for (const char* size : {"[64,64]", "[128]", "[128,128,1]", "\"128\"", "{}", "[128,128.5]", "[1,128]"})
    expect_error(open({edge_codes(), edge_scales()},
                      fmt::format(R"({{"quantization_config":{{"weight_block_size":{}}}}})", size)),
                 Code::kUnsupported, {"config.json", "weight_block_size", "[128, 128]", "'a.weight'"});
  for (const char* config : {"{}", R"({"quantization_config":{}})", R"({"quantization_config":[]})",
                             R"({"quantization_config":{"weight_block_size":null}})"})
    expect_error(open({edge_codes(), edge_scales()}, config), Code::kUnsupported,
                 {"weight_block_size", "missing"});
}

// Whole numbers with another kind of scale, and scales without codes, stay what they are.
TEST_F(BlockScales, OthersAreLeftAlone) {
  const auto checkpoint = open({{"a.weight", "I8", {2, 16}, bytes_counting(32)},
                                {"a.scale", "F32", {2, 1}, floats({1, 2})},
                                {"b.weight", "I8", {2, 16}, bytes_counting(32)},
                                {"c.weight_scale_inv", "F32", {1, 1}, raw(1.f)},
                                {"d", "F8_E4M3", {2, 2}, "1234"}});
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
  EXPECT_EQ(checkpoint->tensors().size(), 5u);
  expect_error(checkpoint->matrix("a.weight"), Code::kUnsupported, {"'a.weight'", "I8"});
  expect_error(checkpoint->matrix("d"), Code::kUnsupported, {"'d'", "F8_E4M3", "block scales"});
  EXPECT_TRUE(checkpoint->matrix("c.weight_scale_inv").ok());
}

// Tensors of published storage against their exact values.
class Published : public testing::TestWithParam<std::tuple<const char*, const char*, bool>> {};

TEST_P(Published, ValuesAreExact) {
  const auto [name, prefix, last_rows] = GetParam();
  const std::string directory = std::string(FETTLE_TEST_DATA "/fp8/") + name;
  const auto checkpoint = Checkpoint::open(directory);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
  const auto reference = read_safetensors(directory + "/reference.safetensors").value();
  ASSERT_FALSE(reference.empty());
  for (const StoredTensor& expected : reference) {
    const auto view = checkpoint->matrix(expected.name.substr(std::strlen(prefix)));
    ASSERT_TRUE(view.ok()) << view.error().message();
    ASSERT_EQ(view->cols, expected.shape[1]);
    std::vector<float> row(static_cast<size_t>(view->cols)), values(row.size());
    for (int64_t r = 0; r < expected.shape[0]; ++r) {
      view->decode_row(last_rows ? view->rows - expected.shape[0] + r : r, row.data());
      std::memcpy(values.data(), expected.data + static_cast<size_t>(r) * row.size() * 4, row.size() * 4);
      ASSERT_EQ(row, values) << expected.name << " row " << r;
    }
  }
  for (const StoredTensor& tensor : checkpoint->tensors())
    EXPECT_TRUE(tensor.scheme.has_value()) << tensor.name << " was not joined";
}

INSTANTIATE_TEST_SUITE_P(Fp8, Published,
                         testing::Values(std::tuple("deepseek_v3-fp8", "dequant_tail/", true),
                                         std::tuple("deepseek_v4-native", "dequant_row/", false)),
                         [](const auto& info) { return info.index == 0 ? "v3" : "v4"; });

}  // namespace
}  // namespace fettle
