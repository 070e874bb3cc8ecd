#include "text_fixtures.h"

namespace fettle {
namespace {

TextFiles files_of(const GgufTokenizer& gguf) {
  auto json = tokenizer_json_from_gguf(gguf);
  auto config = tokenizer_config_from_gguf(gguf);
  EXPECT_TRUE(json.ok()) << json.error().message();
  EXPECT_TRUE(config.ok()) << config.error().message();
  return {{"tokenizer.json", *json}, {"tokenizer_config.json", *config}};
}

TEST(GgufTokenizer, IdsOfEveryGrammarAreTheReference) {
  const auto all = texts();
  for (const auto& grammar : kGrammars) {
    const auto tokenizer = load_tokenizer(files_of(gguf_metadata(grammar)));
    ASSERT_TRUE(tokenizer);
    const Json ids = data_json(grammar + ".gguf.json")["cases"]["ids"];
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(*tokenizer->encode(all[i], false), ids[i].get<std::vector<int32_t>>())
          << grammar << " text " << i;
    }
  }
}

TEST(GgufTokenizer, TheFileIsTheOriginals) {
  for (const auto& grammar : kGrammars) {
    const Json made = *parse_json(*tokenizer_json_from_gguf(gguf_metadata(grammar)), "made");
    Json original = data_json(grammar + ".tokenizer.json");
    for (const char* part : {"normalizer", "added_tokens", "post_processor", "decoder", "model"}) {
      EXPECT_EQ(nlohmann::json(made[part]), nlohmann::json(original[part])) << grammar << " " << part;
    }
    ASSERT_EQ(made["pre_tokenizer"]["pretokenizers"].size(),
              original["pre_tokenizer"]["pretokenizers"].size())
        << grammar;
  }
}

TEST(GgufTokenizer, GrammarsThatShareASplitter) {
  const auto all = texts();
  // qwen2's grammar without the normaliser.
  auto gguf = gguf_metadata("qwen2");
  gguf.pre = "deepseek-r1-qwen";
  const Json cases = data_json("qwen2.gguf.json")["cases"];
  auto tokenizer = load_tokenizer(files_of(gguf));
  for (size_t i = 0; i < all.size(); ++i) {
    const auto key = std::to_string(i);
    const Json& expected =
        cases["ids_without_nfc"].contains(key) ? cases["ids_without_nfc"][key] : cases["ids"][i];
    EXPECT_EQ(*tokenizer->encode(all[i], false), expected.get<std::vector<int32_t>>()) << "text " << i;
  }
  ASSERT_FALSE(cases["ids_without_nfc"].empty());

  gguf = gguf_metadata("deepseek-v3");
  const auto expected = *tokenizer_json_from_gguf(gguf);
  gguf.pre = "joyai-llm";
  EXPECT_EQ(*tokenizer_json_from_gguf(gguf), expected);
}

TEST(GgufTokenizer, BosIsAddedOnceWhenAsked) {
  auto gguf = gguf_metadata("llama-bpe");
  const auto bos = static_cast<int32_t>(*gguf.bos);
  const auto plain = *load_tokenizer(files_of(gguf))->encode("hello", true);
  EXPECT_NE(plain.front(), bos);
  auto expected = plain;
  expected.insert(expected.begin(), bos);

  for (const auto add_bos :
       {std::optional<bool>(true), std::optional<bool>()}) {  // absent: this grammar's default is yes
    gguf.add_bos = add_bos;
    EXPECT_EQ(*load_tokenizer(files_of(gguf))->encode("hello", true), expected);
    EXPECT_EQ(*load_tokenizer(files_of(gguf))->encode("hello", false), plain);
    // The file alone says it too: other engines read only that.
    EXPECT_EQ(*load_tokenizer({{"tokenizer.json", *tokenizer_json_from_gguf(gguf)}})->encode("hello", true),
              expected);
  }
}

TEST(GgufTokenizer, ConfigNamesTheSpecialTokens) {
  auto gguf = gguf_metadata("qwen2");
  gguf.chat_template = "{{ bos_token }}{{ messages[0].content }}";
  const Json config = *parse_json(*tokenizer_config_from_gguf(gguf), "made");
  EXPECT_EQ(config["bos_token"], "<｜begin▁of▁sentence｜>");
  EXPECT_EQ(config["eos_token"], "<｜end▁of▁sentence｜>");
  EXPECT_TRUE(config["pad_token"].is_null());
  EXPECT_EQ(config["add_bos_token"], false);
  EXPECT_EQ(config["chat_template"], gguf.chat_template);
  EXPECT_EQ(load_tokenizer(files_of(gguf))->end_tokens(), std::vector<int32_t>{441});
}

TEST(GgufTokenizer, ErrorsNameTheKeyAndWhatIsKnown) {
  const auto refused = [](auto change) {
    GgufTokenizer gguf = gguf_metadata("smollm");
    change(gguf);
    const auto json = tokenizer_json_from_gguf(gguf);
    EXPECT_FALSE(json.ok());
    return json.ok() ? Error(Code::kInternal, "") : json.error();
  };
  const Error pre = refused([](auto& gguf) { gguf.pre = "viking"; });
  EXPECT_EQ(pre.code(), Code::kUnsupported);
  EXPECT_NE(pre.message().find("viking"), std::string::npos);
  for (const auto& grammar : kGrammars)
    EXPECT_NE(pre.message().find(grammar), std::string::npos) << pre.message();

  EXPECT_EQ(refused([](auto& gguf) { gguf.model = "llama"; }).code(), Code::kUnsupported);
  const auto says = [&](auto change, const char* part) {
    const Error error = refused(change);
    EXPECT_EQ(error.code(), Code::kBadInput);
    EXPECT_NE(error.message().find(part), std::string::npos) << error.message();
  };
  says([](auto& gguf) { gguf.tokens.clear(); }, "tokens has 0 entries");
  says([](auto& gguf) { gguf.token_type.pop_back(); }, "token_type has 448 entries, expected 449");
  says([](auto& gguf) { gguf.token_type[3] = 99; }, "token_type[3] is 99");
  says([](auto& gguf) { gguf.tokens[5] = gguf.tokens[4]; }, "token 5 has the text of token 4");
  says([](auto& gguf) { gguf.merges[2] = "nospace"; }, "merges[2] is \"nospace\"");
  says([](auto& gguf) { gguf.merges[2] = "a b c"; }, "merges[2]");
  says([](auto& gguf) { gguf.bos = 449; }, "bos_token_id is 449");
  says([](auto& gguf) { gguf.bos = -1; }, "bos_token_id is -1");
}

}  // namespace
}  // namespace fettle
