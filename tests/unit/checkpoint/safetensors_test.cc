#include "checkpoint/safetensors.h"

#include "builders.h"

namespace fettle {
namespace {

Result<std::vector<SafetensorsEntry>> parse(const std::string& header, const std::string& data) {
  const std::string file = safetensors_file(header, data);
  return parse_safetensors(as_bytes(file), "file");
}

TEST(Safetensors, ReadsEntriesInTheOrderOfTheirBytes) {
  const std::string data(20, 'x');
  const auto entries =
      parse(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},)"
            R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
            R"("none":{"dtype":"F32","shape":[0,4],"data_offsets":[8,8]}}   )",
            data);
  ASSERT_TRUE(entries.ok()) << entries.error().message();
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[1].name, "none");
  EXPECT_EQ((*entries)[2].name, "b");
  EXPECT_EQ((*entries)[2].dtype, DType::kBF16);
  EXPECT_EQ((*entries)[2].shape, (Shape{2, 3}));
  EXPECT_EQ((*entries)[2].offset - (*entries)[0].offset, 8u);
  EXPECT_EQ((*entries)[2].bytes, 12u);
}

TEST(Safetensors, ScalarsEmptyFilesAndPartsOfBytes) {
  EXPECT_TRUE(parse("{}", "").ok());
  const auto scalar = parse(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", "1234");
  ASSERT_TRUE(scalar.ok()) << scalar.error().message();
  EXPECT_EQ((*scalar)[0].shape, Shape{});
  EXPECT_TRUE(parse(R"({"s":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}})", "123").ok());
  EXPECT_TRUE(parse(R"({"s":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", "123").ok());
  expect_error(parse(R"({"s":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", "12"), Code::kBadInput,
               {"'s'", "fraction"});
}

TEST(Safetensors, RefusesLengthsThatLie) {
  for (const std::string& file :
       {std::string(), std::string("1234567"), raw<uint64_t>(1) + "", raw<uint64_t>(UINT64_MAX) + "{}",
        raw<uint64_t>(100'000'001) + "{}", raw<uint64_t>(3) + "{}", raw<uint64_t>(0)})
    expect_error(parse_safetensors(as_bytes(file), "file"), Code::kBadInput, {"file"});
}

TEST(Safetensors, RefusesRangesThatDoNotTile) {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const std::string data(8, 'x');
  const auto with = [&](const std::string& second) { return parse("{" + a + "," + second + "}", data); };
  EXPECT_TRUE(with(R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]})").ok());
  expect_error(with(R"("b":{"dtype":"U8","shape":[5],"data_offsets":[3,8]})"), Code::kBadInput,
               {"'b'", "overlaps"});
  expect_error(with(R"("b":{"dtype":"U8","shape":[3],"data_offsets":[5,8]})"), Code::kBadInput,
               {"'b'", "hole"});
  expect_error(with(R"("b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]})"), Code::kBadInput,
               {"2 bytes behind"});
  expect_error(with(R"("b":{"dtype":"U8","shape":[5],"data_offsets":[4,9]})"), Code::kBadInput,
               {"'b'", "[4, 9]"});
  expect_error(with(R"("b":{"dtype":"U8","shape":[4],"data_offsets":[8,4]})"), Code::kBadInput,
               {"'b'", "ascending"});
  expect_error(with(R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})"), Code::kBadInput,
               {"'b'", "overlaps"});
  expect_error(with(R"("b":{"dtype":"U16","shape":[4],"data_offsets":[4,8]})"), Code::kBadInput,
               {"4 bytes stored", "needs 8"});
  expect_error(with(a), Code::kBadInput, {"'a'", "twice"});
}

TEST(Safetensors, RefusesShapesThatOverflow) {
  for (const char* shape :
       {"[4611686018427387904,4]", "[9223372036854775807,9223372036854775807]", "[1099511627776,16777216]"})
    expect_error(
        parse(fmt::format(R"({{"a":{{"dtype":"F64","shape":{},"data_offsets":[0,0]}}}})", shape), ""),
        Code::kBadInput, {"'a'"});
  expect_error(parse(R"({"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,0]}})", ""),
               Code::kBadInput, {"'a'", "shape"});
  expect_error(parse(R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}})", ""), Code::kBadInput,
               {"'a'", "shape"});
}

TEST(Safetensors, RefusesHeadersOfAnotherForm) {
  const char* headers[] = {R"([])",
                           R"(1)",
                           R"( {})",
                           R"({"a":1})",
                           R"({"a":[]})",
                           R"({"a":{}})",
                           R"({"a":{"dtype":"U8"}})",
                           R"({"a":{"dtype":"U8","shape":[1]}})",
                           R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})",
                           R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})",
                           R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})",
                           R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})",
                           R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}})",
                           R"({"a":{"dtype":"U8","shape":[1],"data_offsets":{"0":1}}})",
                           R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})",
                           R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":1}})",
                           R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})",
                           R"({"__metadata__":{"k":1}})",
                           R"({"__metadata__":{"k":{}}})",
                           R"({"__metadata__":"k"})",
                           R"({"a":)",
                           R"({"a":{"dtype":"U8","shape":[null],"data_offsets":[0,1]}})",
                           "{\"\xff\":{}}"};
  for (const char* header : headers) EXPECT_FALSE(parse(header, "x").ok()) << header;
  std::string deep = R"({"a":)";
  for (int i = 0; i < 100000; ++i) deep += '[';
  EXPECT_FALSE(parse(deep, "").ok());
}

TEST(Safetensors, NamesWhatItDoesNotKnow) {
  expect_error(parse(R"({"a\u001b[31m":{"dtype":"Q7","shape":[1],"data_offsets":[0,1]}})", "x"),
               Code::kUnsupported, {"'a\\x1b[31m'", "'Q7'"});
}

}  // namespace
}  // namespace fettle
