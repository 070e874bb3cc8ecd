#include <gtest/gtest.h>

#include <random>

#include "text/text.h"

namespace fettle {
namespace {

struct Parts {
  std::string reasoning, content;
  bool operator==(const Parts&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Parts& parts) {
  return out << "[" << parts.reasoning << "|" << parts.content << "]";
}

template <typename NextSize>
Parts split(const std::string& prompt, std::string_view text, NextSize next_size) {
  ReasoningSplitter splitter(prompt);
  Parts parts;
  const auto add = [&](const ReasoningSplitter::Piece& piece) {
    parts.reasoning += piece.reasoning;
    parts.content += piece.content;
  };
  while (!text.empty()) {
    const size_t size = std::min<size_t>(next_size(), text.size());
    add(splitter.push(text.substr(0, size)));
    text.remove_prefix(size);
  }
  add(splitter.flush());
  return parts;
}

struct Case {
  std::string prompt, text;
  Parts expected;
};

const std::vector<Case> kCases = {
    {"<｜Assistant｜>", "<think>\nbecause\n</think>\n\n42", {"\nbecause\n", "\n\n42"}},
    {"<｜Assistant｜><think>\n", "because</think>42", {"because", "42"}},
    {"<｜Assistant｜><think>\n\n", "</think>\n\n42", {"", "\n\n42"}},
    {"<｜Assistant｜><think>\n", "never closed </thin", {"never closed </thin", ""}},
    {"", "plain answer with <think>tags</think> in it", {"", "plain answer with <think>tags</think> in it"}},
    {"", "\n <think>a</think>b<think>c</think>", {"a", "\n b<think>c</think>"}},
    {"", "<thin", {"", "<thin"}},
    {"", "<thinking>x</thinking>", {"", "<thinking>x</thinking>"}},
    {"", "<think>a <think> b < c </ </think </think>d</think>", {"a <think> b < c </ </think ", "d</think>"}},
    {"", "<think></think>\n<think>again</think>x", {"again", "\nx"}},
    {"user said <think> here<｜Assistant｜>", "answer", {"", "answer"}},
    {"<think>\n\n</think>\n\n", "answer", {"", "answer"}},
    {"", "", {"", ""}},
    {"<think>", "é中</</think>🙂", {"é中</", "🙂"}},
};

TEST(ReasoningSplitter, WholeText) {
  for (const Case& test : kCases) {
    EXPECT_EQ(split(test.prompt, test.text, [] { return std::string::npos; }), test.expected) << test.text;
  }
}

TEST(ReasoningSplitter, AnySplitGivesTheSame) {
  std::mt19937 random(3);
  for (const Case& test : kCases) {
    EXPECT_EQ(split(test.prompt, test.text, [] { return 1; }), test.expected) << test.text;
    for (int round = 0; round < 100; ++round) {
      EXPECT_EQ(split(test.prompt, test.text, [&] { return random() % 9; }), test.expected) << test.text;
    }
  }
}

TEST(ReasoningSplitter, WritesWhatIsDecidedAtOnce) {
  ReasoningSplitter splitter("<think>\n");
  EXPECT_TRUE(splitter.inside());
  EXPECT_EQ(splitter.push("so 1 < 2").reasoning, "so 1 < 2");
  EXPECT_EQ(splitter.push(" <").reasoning, " ");
  EXPECT_EQ(splitter.push("/think").reasoning, "");
  const auto piece = splitter.push(">yes");
  EXPECT_EQ(piece.reasoning, "");
  EXPECT_EQ(piece.content, "yes");
  EXPECT_FALSE(splitter.inside());
  EXPECT_EQ(splitter.push("<").content, "<");
}

}  // namespace
}  // namespace fettle
