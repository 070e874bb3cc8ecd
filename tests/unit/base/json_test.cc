#include "base/json.h"

#include <gtest/gtest.h>

#include "temporary_directory.h"

namespace fettle {
namespace {

std::string message(const Error& error) { return error.message(); }

TEST(ParseJson, KeepsTheOrderOfKeys) {
  EXPECT_EQ(dump_json(parse_json(R"({"b": 1, "a": [true, null], "c": {"z": 0, "y": "x"}})", "t").value(), -1),
            R"({"b":1,"a":[true,null],"c":{"z":0,"y":"x"}})");
}

TEST(ParseJson, NamesTheSourceOfBrokenText) {
  for (const char* text : {"", "{", "{\"a\":}", "[1,]", "nul", "{} x", "\"\xff\"", "{\"a\" 1}"}) {
    const auto result = parse_json(text, "request body");
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_EQ(result.error().code(), Code::kBadInput);
    EXPECT_EQ(message(result.error()).rfind("request body: ", 0), 0u) << message(result.error());
  }
}

TEST(ParseJson, RefusesDeepNesting) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse_json(nested(128), "t").ok());
  EXPECT_FALSE(parse_json(nested(129), "t").ok());
  EXPECT_TRUE(parse_json(nested(3), "t", 3).ok());
  EXPECT_FALSE(parse_json(R"({"a":{"b":{"c":{}}}})", "t", 3).ok());
  EXPECT_FALSE(parse_json(std::string(5000000, '['), "t").ok());  // must not exhaust the stack
}

// Quadratic work would take an hour here: the test would run into its limit.
TEST(ParseJson, ReadsObjectsOfVeryManyFields) {
  constexpr int kFields = 400000;
  std::string text = "{";
  for (int i = 0; i < kFields; ++i) text += fmt::format("\"field{}\":{},", i % (kFields - 1), i);
  text += "\"last\":{\"a\":1}}";
  const Json json = parse_json(text, "t").value();
  EXPECT_EQ(json.size(), static_cast<size_t>(kFields));
  EXPECT_EQ(json.begin().key(), "field0");
  EXPECT_EQ(json.begin().value(), kFields - 1);
  EXPECT_EQ(json["last"]["a"], 1);
}

TEST(ParseJson, OfARepeatedNameTheLastValueCountsInTheFirstPlace) {
  EXPECT_EQ(dump_json(parse_json(R"({"a": [1], "b": {"a": 2, "a": {"c": 3}}, "a": 4})", "t").value(), -1),
            R"({"a":4,"b":{"a":{"c":3}}})");
  std::string many = "{";
  for (int i = 0; i < 100; ++i) many += fmt::format("\"f{}\":{},", i % 50, i);
  const Json json = parse_json(many + "\"z\":0}", "t").value();
  EXPECT_EQ(json.size(), 51u);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(json[fmt::format("f{}", i)], i + 50);
}

TEST(DumpJson, ReplacesInvalidUtf8) {
  Json json;
  json["text"] =
      "a\xff"
      "b";
  EXPECT_EQ(dump_json(json, -1),
            "{\"text\":\"a\xef\xbf\xbd"
            "b\"}");
}

TEST(ReadJsonFile, NamesThePath) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_file_atomic(directory / "broken.json", "{\"a\": ").ok());
  EXPECT_NE(message(read_json_file(directory / "broken.json").error()).find("broken.json"),
            std::string::npos);
  const auto missing = read_json_file(directory / "absent.json");
  EXPECT_EQ(missing.error().code(), Code::kBadInput);
  EXPECT_NE(message(missing.error()).find("absent.json"), std::string::npos);
}

class Reader : public testing::Test {
 protected:
  Json json_ =
      parse_json(
          R"({"whole": 7, "as_float": 1e6, "half": 0.5, "big": 18446744073709551615, "yes": true, "name": "x",
                              "list": [1, 2.0, -3], "mixed": [1, "2"], "words": ["a", "b"], "nothing": null, "inner": {"n": 4}})",
          "t")
          .value();
  JsonReader reader_{json_, "config.json"};
};

TEST_F(Reader, GivesTypedValues) {
  EXPECT_EQ(reader_.integer("whole").value(), 7);
  EXPECT_EQ(reader_.integer("as_float").value(), 1000000);
  EXPECT_EQ(reader_.number("half").value(), 0.5);
  EXPECT_EQ(reader_.number("whole").value(), 7.0);
  EXPECT_TRUE(reader_.boolean("yes").value());
  EXPECT_EQ(reader_.string("name").value(), "x");
  EXPECT_EQ(reader_.integers("list").value(), (std::vector<int64_t>{1, 2, -3}));
  EXPECT_EQ(reader_.strings("words").value(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(reader_.object("inner").value().integer("n").value(), 4);
}

TEST_F(Reader, ErrorsNameFileFieldFoundAndExpected) {
  EXPECT_EQ(message(reader_.integer("half").error()),
            "config.json: field 'half' is 0.5; expected a whole number");
  EXPECT_EQ(message(reader_.integer("gone").error()),
            "config.json: field 'gone' is missing; expected a whole number");
  EXPECT_EQ(message(reader_.string("nothing").error()),
            "config.json: field 'nothing' is missing; expected a string");
  EXPECT_EQ(message(reader_.object("inner").value().boolean("n").error()),
            "config.json: inner: field 'n' is 4; expected true or false");
  EXPECT_FALSE(reader_.integer("big").ok());
  EXPECT_FALSE(reader_.integers("mixed").ok());
  EXPECT_FALSE(reader_.strings("mixed").ok());
  EXPECT_FALSE(reader_.number("name").ok());
  EXPECT_FALSE(reader_.object("list").ok());
}

TEST_F(Reader, FallbacksAreForAbsentFieldsOnly) {
  EXPECT_EQ(reader_.integer_or("gone", 3).value(), 3);
  EXPECT_EQ(reader_.integer_or("nothing", 3).value(), 3);
  EXPECT_EQ(reader_.integer_or("whole", 3).value(), 7);
  EXPECT_EQ(reader_.string_or("gone", "f").value(), "f");
  EXPECT_FALSE(reader_.boolean_or("name", true).ok());
  EXPECT_FALSE(reader_.number_or("name", 1).ok());
}

TEST(JsonReader, WorksOnWhatIsNoObject) {
  const Json list = Json::array({1, 2});
  const JsonReader reader(list, "t");
  EXPECT_FALSE(reader.has("0"));
  EXPECT_FALSE(reader.integer("0").ok());
}

}  // namespace
}  // namespace fettle
