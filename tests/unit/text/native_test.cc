// The C border itself, where the C++ around it does not reach.
#include <fettle_text.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace {

const uint8_t* utf8(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

std::string take(fettle_text_bytes bytes) {
  std::string text(reinterpret_cast<const char*>(bytes.data), bytes.size);
  fettle_text_bytes_free(bytes);
  return text;
}

int32_t check(std::string_view kind, std::string_view grammar, std::string* message = nullptr) {
  fettle_text_bytes error{};
  const int32_t status = fettle_grammar_check(utf8(kind), kind.size(), utf8(grammar), grammar.size(), &error);
  const std::string text = take(error);
  if (message) *message = text;
  return status;
}

TEST(Native, GrammarsCompile) {
  EXPECT_EQ(check("json_schema",
                  R"({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})"),
            FETTLE_TEXT_OK);
  EXPECT_EQ(check("regex", "[a-z]+(foo|bar)?"), FETTLE_TEXT_OK);
  EXPECT_EQ(check("lark", "start: \"a\" start | \"b\""), FETTLE_TEXT_OK);

  std::string message;
  EXPECT_EQ(check("json_schema", "{\"type\": \"nothing\"}", &message), FETTLE_TEXT_BAD_INPUT);
  EXPECT_NE(message.find("nothing"), std::string::npos) << message;
  EXPECT_EQ(check("json_schema", "{"), FETTLE_TEXT_BAD_INPUT);
  EXPECT_EQ(check("regex", "[a-z"), FETTLE_TEXT_BAD_INPUT);
  EXPECT_EQ(check("lark", "start: missing"), FETTLE_TEXT_BAD_INPUT);
  EXPECT_EQ(check("lark", "start: " + std::string(50000, '(')), FETTLE_TEXT_BAD_INPUT);
  EXPECT_EQ(check("regex", std::string(50000, '(')), FETTLE_TEXT_BAD_INPUT);
  EXPECT_EQ(check("regex", "\xff"), FETTLE_TEXT_BAD_INPUT);
  EXPECT_EQ(check("yaml", "a", &message), FETTLE_TEXT_UNSUPPORTED);
  EXPECT_NE(message.find("yaml"), std::string::npos) << message;
}

TEST(Native, NothingToFreeAndNowhereToReport) {
  fettle_text_bytes_free({});
  fettle_text_ids_free({});
  fettle_tokenizer_free(nullptr);
  fettle_template_free(nullptr);
  fettle_tokenizer* tokenizer = nullptr;
  EXPECT_EQ(fettle_tokenizer_new(nullptr, 0, &tokenizer, nullptr), FETTLE_TEXT_BAD_INPUT);
  EXPECT_EQ(tokenizer, nullptr);
}

// A regular expression that backtracks without end makes the regex library give up by a panic.
TEST(Native, APanicBecomesAnError) {
  const std::string_view json = R"json({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?:a|aa)+(?<=b)"}, "behavior": "Isolated", "invert": false},
    "post_processor": null, "decoder": null, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})json";
  fettle_tokenizer* tokenizer = nullptr;
  fettle_text_bytes error{};
  ASSERT_EQ(fettle_tokenizer_new(utf8(json), json.size(), &tokenizer, &error), FETTLE_TEXT_OK) << take(error);
  const std::string text(64, 'a');
  fettle_text_ids ids{};
  EXPECT_EQ(fettle_tokenizer_encode(tokenizer, utf8(text), text.size(), 0, &ids, &error), FETTLE_TEXT_PANIC);
  const std::string message = take(error);
  EXPECT_NE(message.find("panicked"), std::string::npos) << message;
  // The handle still works.
  error = {};
  EXPECT_EQ(fettle_tokenizer_encode(tokenizer, utf8("a"), 1, 0, &ids, &error), FETTLE_TEXT_OK);
  ASSERT_EQ(ids.size, 1u);
  EXPECT_EQ(ids.data[0], 0u);
  fettle_text_ids_free(ids);
  fettle_tokenizer_free(tokenizer);
}

}  // namespace
