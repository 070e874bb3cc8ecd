#include <random>

#include "text/utf8.h"
#include "text_fixtures.h"

namespace fettle {
namespace {

bool is_whole_utf8(const std::string& text) {
  std::string copy = text;
  const std::string taken = take_characters(copy);
  return copy.empty() && taken == text;
}

void expect_stream_equals_decode(const std::shared_ptr<const Tokenizer>& tokenizer,
                                 const std::vector<int32_t>& ids, bool skip_special) {
  StreamDecoder stream(tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = stream.push(id);
    EXPECT_TRUE(is_whole_utf8(piece)) << piece;
    text += piece;
  }
  text += stream.flush();
  EXPECT_EQ(text, *tokenizer->decode(ids, skip_special));
  EXPECT_EQ(stream.flush(), "");
}

TEST(StreamDecoder, EqualsDecodeOnTexts) {
  for (const auto& grammar : kGrammars) {
    const auto tokenizer = grammar_tokenizer(grammar);
    for (const auto& text : texts()) {
      for (const bool skip : {false, true}) {
        expect_stream_equals_decode(tokenizer, *tokenizer->encode(text, false), skip);
      }
    }
  }
}

// Random ids are mostly broken UTF-8: bytes of characters in the wrong order, cut short, or never begun.
TEST(StreamDecoder, EqualsDecodeOnRandomIds) {
  std::mt19937 random(7);
  for (const auto& grammar : kGrammars) {
    const auto tokenizer = grammar_tokenizer(grammar);
    for (int round = 0; round < 300; ++round) {
      std::vector<int32_t> ids(random() % 12);
      for (auto& id : ids) id = static_cast<int32_t>(random() % 460);  // some outside the vocabulary
      expect_stream_equals_decode(tokenizer, ids, round % 2 == 0);
    }
  }
}

TEST(StreamDecoder, HoldsBackPartsOfACharacter) {
  const auto tokenizer = grammar_tokenizer("qwen2");
  const auto ids = *tokenizer->encode("\U0001F9FF", false);  // 🧿
  ASSERT_GT(ids.size(), 1u) << "the test needs a character that is several tokens";
  StreamDecoder stream(tokenizer, false);
  for (size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(stream.push(ids[i]), "");
  EXPECT_EQ(stream.push(ids.back()), "\U0001F9FF");

  // A cut character comes out as one replacement when the next one starts, or at the end.
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(*tokenizer->token_id("a")), "\uFFFDa");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
  EXPECT_EQ(stream.push(-5), "");
}

// A tokenizer of the SentencePiece kind: a leading space is dropped, bytes without a token are <0xNN>.
TextFiles sentence_piece_files() {
  Json vocab = Json::object();
  int id = 0;
  for (const char* token : {"<unk>", "<s>", "</s>", "▁", "▁a", "b", "▁b", "c"}) vocab[token] = id++;
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = id++;
  const auto special = [](int token_id, const char* content) {
    return Json{{"id", token_id},  {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = Json::array({special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")});
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = nullptr;
  json["post_processor"] = nullptr;
  json["decoder"] = {
      {"type", "Sequence"},
      {"decoders", Json::array({{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
                                {{"type", "ByteFallback"}},
                                {{"type", "Fuse"}},
                                {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}})}};
  json["model"] = {{"type", "BPE"},         {"dropout", nullptr},        {"unk_token", "<unk>"},
                   {"byte_fallback", true}, {"vocab", std::move(vocab)}, {"merges", Json::array()}};
  return {{"tokenizer.json", dump_json(json)}};
}

TEST(StreamDecoder, EqualsDecodeWhereTokensDependOnNeighbours) {
  const auto tokenizer = load_tokenizer(sentence_piece_files());
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(*tokenizer->decode({4, 6, 5}, false), "a bb");
  std::mt19937 random(11);
  for (int round = 0; round < 500; ++round) {
    std::vector<int32_t> ids(random() % 10);
    for (auto& id : ids) id = static_cast<int32_t>(random() % 2 ? random() % 8 : 8 + 0xE0 + random() % 3);
    expect_stream_equals_decode(tokenizer, ids, round % 2 == 0);
  }
  std::vector<int32_t> character;
  for (const char byte : std::string("é中🙂")) character.push_back(8 + static_cast<uint8_t>(byte));
  expect_stream_equals_decode(tokenizer, character, false);
}

TEST(Utf8, ReplacesMaximalSubparts) {
  const auto read = [](std::string bytes) {
    const std::string text = take_characters(bytes);
    return text + "|" + std::to_string(bytes.size());
  };
  EXPECT_EQ(read("aé中🙂"), "aé中🙂|0");
  EXPECT_EQ(read("\xE4\xB8"), "|2");
  EXPECT_EQ(read("\xF0\x9F\x99"), "|3");
  EXPECT_EQ(read("\xF0\x9F\x99x"), "\uFFFDx|0");
  EXPECT_EQ(read("\xC0\xAF"), "\uFFFD\uFFFD|0");
  EXPECT_EQ(read("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD|0");  // a surrogate
  EXPECT_EQ(read("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD|0");
  EXPECT_EQ(read("\xE0\x80"), "\uFFFD\uFFFD|0");
}

}  // namespace
}  // namespace fettle
