#include <thread>

#include "text_fixtures.h"

namespace fettle {
namespace {

const char* const kBos = "<｜begin▁of▁sentence｜>";
const char* const kEos = "<｜end▁of▁sentence｜>";

TEST(Tokenizer, IdsOfEveryGrammarAreTheReference) {
  const auto all = texts();
  ASSERT_EQ(all.size(), 60u);
  for (const auto& grammar : kGrammars) {
    const auto tokenizer = grammar_tokenizer(grammar);
    ASSERT_TRUE(tokenizer);
    const Json ids = data_json(grammar + ".gguf.json")["cases"]["ids"];
    ASSERT_EQ(ids.size(), all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      const auto encoded = tokenizer->encode(all[i], false);
      ASSERT_TRUE(encoded.ok()) << encoded.error().message();
      EXPECT_EQ(*encoded, ids[i].get<std::vector<int32_t>>()) << grammar << " text " << i;
    }
  }
}

TEST(Tokenizer, DecodingGivesTheTextBack) {
  const auto all = texts();
  for (const auto& grammar : kGrammars) {
    const auto tokenizer = grammar_tokenizer(grammar);
    const Json changed = data_json(grammar + ".gguf.json")["cases"].value("ids_without_nfc", Json::object());
    for (size_t i = 0; i < all.size(); ++i) {
      const auto decoded = tokenizer->decode(*tokenizer->encode(all[i], false), false);
      ASSERT_TRUE(decoded.ok());
      // Only a normaliser may change the text.
      EXPECT_EQ(*decoded != all[i], changed.contains(std::to_string(i))) << grammar << " text " << i;
    }
  }
}

TEST(Tokenizer, KnowsItsTokens) {
  const auto tokenizer = grammar_tokenizer("smollm");
  EXPECT_EQ(tokenizer->vocab_size(), 449);
  EXPECT_EQ(tokenizer->token_id(kBos), 440);
  EXPECT_EQ(tokenizer->token_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer->token_id("\xff"), std::nullopt);
  EXPECT_EQ(tokenizer->token_text(440), kBos);
  EXPECT_EQ(tokenizer->token_text(449), std::nullopt);
  EXPECT_EQ(tokenizer->token_text(-1), std::nullopt);
  EXPECT_TRUE(tokenizer->is_special(440));
  EXPECT_FALSE(tokenizer->is_special(446));  // <think>: added, not special
  EXPECT_FALSE(tokenizer->is_special(0));
  EXPECT_FALSE(tokenizer->is_special(-7));
  EXPECT_FALSE(tokenizer->is_special(1 << 20));
}

TEST(Tokenizer, SkipsSpecialTokensOnly) {
  const auto tokenizer = grammar_tokenizer("deepseek-v3");
  const auto ids = *tokenizer->encode(std::string(kBos) + "<think>a</think>" + kEos, false);
  EXPECT_EQ(*tokenizer->decode(ids, true), "<think>a</think>");
  EXPECT_EQ(*tokenizer->decode({0, 100000}, false), "!");  // padding rows of the model have no text
  EXPECT_FALSE(tokenizer->decode({0, -1}, false).ok());
}

TEST(Tokenizer, ReadsBosAndEndTokens) {
  TextFiles files = {{"tokenizer.json", data_file("qwen2.tokenizer.json")}};
  files["tokenizer_config.json"] =
      R"({"bos_token": {"__type": "AddedToken", "content": "<｜begin▁of▁sentence｜>", "special": true},
          "eos_token": "<｜end▁of▁sentence｜>", "pad_token": null, "add_bos_token": true})";
  files["generation_config.json"] = R"({"eos_token_id": [443, 441]})";
  auto tokenizer = load_tokenizer(files);
  EXPECT_EQ(tokenizer->bos(), 440);
  EXPECT_EQ(tokenizer->end_tokens(), (std::vector<int32_t>{441, 443}));

  const auto plain = *tokenizer->encode("hello", false);
  auto with_bos = plain;
  with_bos.insert(with_bos.begin(), 440);
  EXPECT_EQ(*tokenizer->encode("hello", true), with_bos);

  files["generation_config.json"] = R"({"eos_token_id": 443})";
  files["tokenizer_config.json"] = R"({"eos_token": "not in the vocabulary", "add_eos_token": true})";
  tokenizer = load_tokenizer(files);
  EXPECT_EQ(tokenizer->bos(), std::nullopt);
  EXPECT_EQ(tokenizer->end_tokens(), std::vector<int32_t>{443});
  EXPECT_EQ(*tokenizer->encode("hello", true), plain);
}

TEST(Tokenizer, RefusesBrokenFiles) {
  const std::string good = data_file("smollm.tokenizer.json");
  const auto message = [](const TextFiles& files) {
    const auto tokenizer = Tokenizer::load(files);
    EXPECT_FALSE(tokenizer.ok());
    return tokenizer.ok() ? std::string() : tokenizer.error().message();
  };
  EXPECT_NE(message({}).find("no tokenizer.json"), std::string::npos);
  EXPECT_NE(message({{"tokenizer.json", ""}}).find("tokenizer.json"), std::string::npos);
  EXPECT_NE(message({{"tokenizer.json", good.substr(0, good.size() / 2)}}).find("tokenizer.json"),
            std::string::npos);
  EXPECT_NE(message({{"tokenizer.json", std::string("{\"a\":\"\xff\"}")}}).find("not UTF-8"),
            std::string::npos);
  EXPECT_NE(message({{"tokenizer.json", std::string(100000, '[')}}).find("tokenizer.json"),
            std::string::npos);

  Json huge = *parse_json(good, "good");
  huge["model"]["vocab"]["!"] = 4294967295u;
  EXPECT_NE(message({{"tokenizer.json", dump_json(huge)}}).find("4294967295"), std::string::npos);

  const auto with = [&](const char* name, const char* text) {
    return TextFiles{{"tokenizer.json", good}, {name, text}};
  };
  EXPECT_NE(message(with("tokenizer_config.json", "[]")).find("tokenizer_config.json"), std::string::npos);
  EXPECT_NE(message(with("tokenizer_config.json", R"({"add_bos_token": 3})")).find("add_bos_token"),
            std::string::npos);
  EXPECT_NE(message(with("generation_config.json", R"({"eos_token_id": -1})")).find("eos_token_id"),
            std::string::npos);
  EXPECT_NE(message(with("generation_config.json", R"({"eos_token_id": "x"})")).find("eos_token_id"),
            std::string::npos);
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const auto ids = grammar_tokenizer("qwen2")->encode("ab\xC3", false);
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.error().code(), Code::kBadInput);
  EXPECT_NE(ids.error().message().find("offset 2"), std::string::npos) << ids.error().message();
}

TEST(Tokenizer, IsSharedByThreads) {
  const auto tokenizer = grammar_tokenizer("qwen2");
  const auto all = texts();
  std::vector<std::vector<int32_t>> expected;
  for (const auto& text : all) expected.push_back(*tokenizer->encode(text, false));
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (size_t worker = 0; worker < wrong.size(); ++worker) {
    threads.emplace_back([&, worker] {
      for (int round = 0; round < 20; ++round) {
        for (size_t i = 0; i < all.size(); ++i)
          wrong[worker] += *tokenizer->encode(all[i], false) != expected[i];
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

}  // namespace
}  // namespace fettle
