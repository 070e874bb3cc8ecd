// Replies: what is read out of them, in any split, and what becomes of markup that is wrong.
#include "formats_fixtures.h"
#include "text/json_scanner.h"
#include "text/json_text.h"

namespace fettle {
namespace {

struct Case {
  std::string format, prompt, text, expected;
};

const std::string kFencedCall =
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"x\": \"é``` }\"}\n```<｜tool▁call▁end｜>";
const std::string kDsmlCall =
    "<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" string=\"true\">1 < 2 "
    "\"é\"\n</｜DSML｜parameter>\n"
    "<｜DSML｜parameter name=\"b\" string=\"false\">{\"k\": [1, "
    "null]}</｜DSML｜parameter>\n</｜DSML｜invoke>";
const std::string kDsmlRead = "f({\"a\": \"1 < 2 \\\"é\\\"\\n\", \"b\": {\"k\": [1, null]}})";
std::string dsml(const std::string& inside) {
  return "\n\n<｜DSML｜tool_calls>\n" + inside + "\n</｜DSML｜tool_calls>";
}

const std::vector<Case> kReasoning = {
    {"*", "<｜Assistant｜>", "<think>\nbecause\n</think>\n\n42", "[\nbecause\n|\n\n42||0]"},
    {"*", "<｜Assistant｜><think>\n", "because</think>42", "[because|42||0]"},
    {"*", "<think>\n\n", "</think>\n\n42", "[|\n\n42||0]"},
    {"*", "<think>\n", "never closed </thin", "[never closed </thin|||0]"},
    {"*", "", "plain answer with <think>tags</think> in it",
     "[|plain answer with <think>tags</think> in it||0]"},
    {"*", "", "\n <think>a</think>b<think>c</think>", "[a|\n b<think>c</think>||0]"},
    {"*", "", "<thin", "[|<thin||0]"},
    {"*", "", "<thinking>x</thinking>", "[|<thinking>x</thinking>||0]"},
    {"*", "", "<think>a <think> b < c </ </think </think>d</think>",
     "[a <think> b < c </ </think |d</think>||0]"},
    {"*", "", "<think></think>\n<think>again</think>x", "[again|\nx||0]"},
    {"*", "user said <think> here<｜Assistant｜>", "answer", "[|answer||0]"},
    {"*", "<think>\n\n</think>\n\n", "answer", "[|answer||0]"},
    {"*", "", "", "[|||0]"},
    {"*", "<think>", "é中</</think>🙂", "[é中</|🙂||0]"},
    {"*", "<think>", "<tool_call><｜tool▁calls▁begin｜></think>x",
     "[<tool_call><｜tool▁calls▁begin｜>|x||0]"},
    {"*", "", "cut \xE4\xB8", "[|cut \xEF\xBF\xBD||0]"},
};

const std::vector<Case> kTokenCalls = {
    {"fenced.jinja", "<think>",
     "r</think>ok<｜tool▁calls▁begin｜>" + kFencedCall + "\n" + kFencedCall + "<｜tool▁calls▁end｜>",
     "[r|ok|f({\"x\": \"é``` }\"}) f({\"x\": \"é``` }\"})|0]"},
    // Left open, as some templates write a single call; and without the opening, as they write a later one.
    {"fenced.jinja", "", "<｜tool▁calls▁begin｜>" + kFencedCall, "[||f({\"x\": \"é``` }\"})|0]"},
    {"fenced.jinja", "", "\n" + kFencedCall + "<｜tool▁calls▁end｜> ok", "[| ok|f({\"x\": \"é``` }\"})|0]"},
    {"fenced.jinja", "", kFencedCall + "\nthen", "[|\nthen|f({\"x\": \"é``` }\"})|0]"},
    {"switch.jinja", "",
     "a<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>g<｜tool▁sep｜> {\"y\":[1,2]} "
     "<｜tool▁call▁end｜><｜tool▁calls▁end｜>b",
     "[|ab|g({\"y\":[1,2]})|0]"},
    // Malformed: the whole call becomes content, the next is read.
    {"switch.jinja", "",
     "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"y\": "
     "oops}<｜tool▁call▁end｜><｜tool▁call▁begin｜>h<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     "[|<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"y\": oops}<｜tool▁call▁end｜>|h({})|1]"},
    {"switch.jinja", "", "<｜tool▁call▁begin｜>g<｜tool▁sep｜>[1]<｜tool▁call▁end｜>!",
     "[|<｜tool▁call▁begin｜>g<｜tool▁sep｜>[1]<｜tool▁call▁end｜>!||1]"},
    {"switch.jinja", "", "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"y\": 1",
     "[|<｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"y\": 1||1]"},
    {"switch.jinja", "", "<｜tool▁call▁begin｜>g", "[|<｜tool▁call▁begin｜>g||1]"},
    {"switch.jinja", "", "<｜tool▁calls▁begin｜>", "[|<｜tool▁calls▁begin｜>||1]"},
    {"switch.jinja", "", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>x",
     "[|<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>x||1]"},
    {"switch.jinja", "",
     "<｜tool▁calls▁begin｜>junk<｜tool▁call▁begin｜>h<｜tool▁sep｜>{}<｜tool▁call▁end｜><"
     "｜tool▁calls▁end｜>",
     "[|<｜tool▁calls▁begin｜>junk|h({})|1]"},
    {"switch.jinja", "",
     "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁begin｜>h<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
     "[|<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}|h({})|1]"},
    {"switch.jinja", "", "<｜tool▁call▁begin｜> <｜tool▁sep｜>{}<｜tool▁call▁end｜>",
     "[|<｜tool▁call▁begin｜> <｜tool▁sep｜>{}<｜tool▁call▁end｜>||1]"},
    {"fenced.jinja", "", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f {}<｜tool▁call▁end｜>",
     "[|<｜tool▁call▁begin｜>function<｜tool▁sep｜>f {}<｜tool▁call▁end｜>||1]"},
};

const std::vector<Case> kDsmlCalls = {
    {"v4", "<think>", "r</think>ok" + dsml(kDsmlCall), "[r|ok|" + kDsmlRead + "|0]"},
    {"v4", "", dsml(kDsmlCall + "\n" + kDsmlCall) + "!", "[|!|" + kDsmlRead + " " + kDsmlRead + "|0]"},
    {"v4", "", "\n" + dsml(kDsmlCall), "[|\n|" + kDsmlRead + "|0]"},
    {"v4", "", "<｜DSML｜tool_calls><｜DSML｜invoke name=\"g\"></｜DSML｜invoke></｜DSML｜tool_calls>",
     "[||g({})|0]"},
    {"v4", "", "a\n\n<｜DSML｜tool_", "[|a\n\n<｜DSML｜tool_||0]"},
    {"v4", "", dsml("<｜DSML｜invoke name=\"g\">\n\n</｜DSML｜invoke>"), "[||g({})|0]"},
    {"v4", "",
     dsml("<｜DSML｜invoke name=\"g\"><｜DSML｜parameter name=\"n\" string=\"false\"> 12 "
          "</｜DSML｜parameter></｜DSML｜invoke>"),
     "[||g({\"n\": 12})|0]"},
    {"v3.2", "", "x\n\n<｜DSML｜function_calls>\n" + kDsmlCall + "\n</｜DSML｜function_calls>",
     "[|x|" + kDsmlRead + "|0]"},
    {"v3.2", "", dsml(kDsmlCall), "[|" + dsml(kDsmlCall) + "||0]"},
    {"v4", "",
     dsml("<｜DSML｜invoke name=\"g\"><｜DSML｜parameter name=\"n\" string=\"false\">1 "
          "2</｜DSML｜parameter></｜DSML｜invoke>" +
          kDsmlCall),
     "[|\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"g\"><｜DSML｜parameter name=\"n\" "
     "string=\"false\">1 2</｜DSML｜parameter></｜DSML｜invoke>|" +
         kDsmlRead + "|1]"},
    {"v4", "", "<｜DSML｜tool_calls>" + kDsmlCall.substr(0, 90),
     "[|<｜DSML｜tool_calls>" + kDsmlCall.substr(0, 90) + "||1]"},
    {"v4", "", "<｜DSML｜tool_calls><｜DSML｜invoke name=\"\"></｜DSML｜invoke></｜DSML｜tool_calls>.",
     "[|<｜DSML｜tool_calls><｜DSML｜invoke name=\"\"></｜DSML｜invoke>.||1]"},
    {"v4", "", "<｜DSML｜tool_calls>who<｜DSML｜invoke name=\"g\"></｜DSML｜invoke></｜DSML｜tool_calls>",
     "[|<｜DSML｜tool_calls>who|g({})|1]"},
    {"v4", "", "<｜DSML｜tool_calls></｜DSML｜tool_calls>",
     "[|<｜DSML｜tool_calls></｜DSML｜tool_calls>||1]"},
};

const std::vector<Case> kJsonCalls = {
    {"chatml.jinja", "",
     "<think>r</think>\n\nok\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": "
     "\"é}\"}}\n</tool_call>\n<tool_call>{\"arguments\": {}, \"name\": \"g\"}</tool_call>",
     "[r|\n\nok|f({\"a\": \"é}\"}) g({})|0]"},
    {"chatml.jinja", "",
     "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\", \"id\": [1]}</tool_call> done",
     "[| done|f({\"x\": 1})|0]"},
    {"chatml.jinja", "", "<tool_call>{\"name\": \"f\"}</tool_call>", "[||f({})|0]"},
    {"chatml.jinja", "",
     "<tool_call>{\"name\": \"f\", \"arguments\": {oops}}</tool_call>\n<tool_call>{\"name\": "
     "\"g\"}</tool_call>",
     "[|<tool_call>{\"name\": \"f\", \"arguments\": {oops}}</tool_call>|g({})|1]"},
    {"chatml.jinja", "", "<tool_call>{\"name\": \"f\"<tool_call>{\"name\": \"g\"}</tool_call>",
     "[|<tool_call>{\"name\": \"f\"|g({})|1]"},
    {"chatml.jinja", "", "<tool_call>{\"name\": 7}</tool_call>",
     "[|<tool_call>{\"name\": 7}</tool_call>||1]"},
    {"chatml.jinja", "", "<tool_call>{}</tool_call>", "[|<tool_call>{}</tool_call>||1]"},
    {"chatml.jinja", "", "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
     "[|<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>||1]"},
    {"chatml.jinja", "", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1",
     "[|<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1||1]"},
    {"chatml.jinja", "", "<tool_call>\n<function=f>\n</tool_call>",
     "[|<tool_call>\n<function=f>\n</tool_call>||1]"},
    {"bare.jinja", "", "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "[||f({\"a\": 1})|0]"},
    {"bare.jinja", "<think>",
     "r</think>\n{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": 1}} ok",
     "[r|\n ok|f({\"a\": 1})|0]"},
    {"bare.jinja", "", "{\"name\": \"Ann\", \"age\": 7}", "[|{\"name\": \"Ann\", \"age\": 7}||0]"},
    {"bare.jinja", "", "{ not json } and more", "[|{ not json } and more||0]"},
    {"bare.jinja", "", "see {\"name\": \"f\", \"parameters\": {}}",
     "[|see {\"name\": \"f\", \"parameters\": {}}||0]"},
    {"bare.jinja", "", "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "[||f({})|0]"},
    {"bare.jinja", "", "<|python_tag|>f.call(1)", "[|<|python_tag|>f.call(1)||1]"},
    {"bare.jinja", "", "{\"name\": \"f\", \"parameters\": {\"a\": 01}}",
     "[|{\"name\": \"f\", \"parameters\": {\"a\": 01}}||1]"},
};

std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (const auto& cases : {kReasoning, kTokenCalls, kDsmlCalls, kJsonCalls}) {
    for (const Case& test : cases) {
      for (const std::string& format : test.format == "*" ? kFormats : std::vector{test.format}) {
        // An untagged format reads no <tool_call>, and the like: markup of others is content anyway.
        all.push_back({format, test.prompt, test.text, test.expected});
      }
    }
  }
  return all;
}

TEST(ReplyParser, ReadsReasoningContentAndCalls) {
  for (const Case& test : all_cases()) {
    EXPECT_EQ(shown(parse_reply(*format_named(test.format), {.prompt = test.prompt}, test.text)),
              test.expected)
        << test.format << ": " << test.text;
  }
}

TEST(ReplyParser, AnySplitGivesTheSame) {
  std::mt19937 random(3);
  for (const Case& test : all_cases())
    expect_any_split(*format_named(test.format), test.prompt, test.text, random, 20);
}

// Markup thrown together at random: every word of it comes out somewhere, whatever the split.
TEST(ReplyParser, NothingIsLost) {
  const std::vector<std::string> parts = {"<think>",
                                          "</think>",
                                          "\n",
                                          "\n\n",
                                          " ",
                                          "{",
                                          "}",
                                          "\"",
                                          "\"name\": \"f\"",
                                          ", ",
                                          "\"arguments\": ",
                                          "{\"a\": 1}",
                                          "<tool_call>",
                                          "</tool_call>",
                                          "<｜tool▁calls▁begin｜>",
                                          "<｜tool▁call▁begin｜>",
                                          "function<｜tool▁sep｜>",
                                          "<｜tool▁sep｜>",
                                          "\n```json\n",
                                          "\n```",
                                          "<｜tool▁call▁end｜>",
                                          "<｜tool▁calls▁end｜>",
                                          "<｜DSML｜tool_calls>",
                                          "<｜DSML｜invoke name=\"g\">",
                                          "</｜DSML｜invoke>",
                                          "<｜DSML｜parameter name=\"k\" string=\"true\">",
                                          "<｜DSML｜parameter name=\"j\" string=\"false\">",
                                          "</｜DSML｜parameter>",
                                          "</｜DSML｜tool_calls>",
                                          "<｜DSML｜",
                                          "<",
                                          "é"};
  std::mt19937 random(11);
  for (int round = 0; round < 4000; ++round) {
    std::string text;
    int words = 0;
    for (int i = 0, count = 3 + static_cast<int>(random() % 20); i < count; ++i) {
      // What stands between the opening of a call and its separator may be the type, which every call has.
      const bool word = random() % 3 == 0 && !text.ends_with("<｜tool▁call▁begin｜>");
      text += word ? "w" + std::to_string(words++) + "_" : parts[random() % parts.size()];
    }
    const auto format = format_named(kFormats[random() % kFormats.size()]);
    expect_any_split(*format, random() % 2 ? "<think>" : "", text, random, 2);
    const std::string all = shown(parse_reply(*format, {}, text));
    for (int i = 0; i < words; ++i) {
      ASSERT_NE(all.find("w" + std::to_string(i) + "_"), std::string::npos) << format->id() << "\n"
                                                                            << text << "\n"
                                                                            << all;
    }
  }
}

TEST(ReplyParser, WritesWhatIsDecidedAtOnce) {
  const auto parser = format_named("v4")->parser({.prompt = "<think>\n", .call_id_prefix = "call_r7_"});
  const auto fed = [&](std::string_view text) {
    std::string out;
    for (const ReplyEvent& event : parser->feed(text)) {
      static const char* const kNames[] = {"reasoning", "content", "begin", "arguments", "end", "malformed"};
      out += std::string(out.empty() ? "" : " ") + kNames[static_cast<int>(event.kind)];
      if (!event.text.empty()) out += ":" + event.text;
      if (!event.id.empty()) out += ":" + event.id + ":" + event.name;
    }
    return out;
  };
  EXPECT_EQ(fed("so 1 < 2"), "reasoning:so 1 < 2");
  EXPECT_EQ(fed(" <"), "reasoning: ");
  EXPECT_EQ(fed("/think"), "");
  EXPECT_EQ(fed(">yes"), "content:yes");
  EXPECT_EQ(fed("\n"), "");
  EXPECT_EQ(fed("n\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">"), "content:\nn begin:call_r7_0:f");
  EXPECT_EQ(fed("<｜DSML｜parameter name=\"k\" string=\"true\">"), "arguments:{\"k\": \"");
  EXPECT_EQ(fed("a\"\xE4\xB8"), "arguments:a\\\"");
  EXPECT_EQ(fed("\xAD<"), "arguments:中");
  EXPECT_EQ(fed("/｜DSML｜parameter></｜DSML｜invoke>"), "arguments:\"} end");
}

TEST(ReplyParser, ACallThatBreaksIsTakenBack) {
  const auto parser = format_named("switch.jinja")->parser({});
  auto events = parser->feed("<｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"y\": ");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].text, "{\"y\": ");
  events = parser->feed("x");
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, ReplyEvent::Kind::kMalformed);
  EXPECT_EQ(events[0].call, 0);
  EXPECT_EQ(events[0].text, "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{\"y\": x");
  EXPECT_EQ(events[0].error, "tool call: its arguments are not a JSON object");
  events = parser->feed("}<｜tool▁call▁end｜><｜tool▁call▁begin｜>h<｜tool▁sep｜>{}<｜tool▁call▁end｜>");
  EXPECT_EQ(events[0].text, "}<｜tool▁call▁end｜>");
  EXPECT_EQ(events[1].call, 1);
}

TEST(ReplyParser, WithoutToolsMarkupIsContent) {
  const auto reply = parse_reply(*format_named("v4"), {.calls = false}, "a" + dsml(kDsmlCall));
  EXPECT_EQ(reply.content, "a" + dsml(kDsmlCall));
  EXPECT_TRUE(reply.calls.empty());
}

TEST(ReplyParser, MessageOfAReply) {
  const auto reply = parse_reply(*format_named("v4"), {.prompt = "<think>"}, "r</think>" + dsml(kDsmlCall));
  EXPECT_EQ(
      dump_json(reply.message(), -1),
      R"({"role":"assistant","reasoning_content":"r","content":null,"tool_calls":[{"id":"call_0","type":"function",)"
      R"("function":{"name":"f","arguments":"{\"a\": \"1 < 2 \\\"é\\\"\\n\", \"b\": {\"k\": [1, null]}}"}}]})");
}

TEST(ReplyParser, LongHeadersAreNoHeaders) {
  std::mt19937 random(5);
  for (const size_t size : {1000u, 1023u, 1024u, 1025u, 5000u}) {
    const std::string name(size, 'n');
    expect_any_split(*format_named("switch.jinja"), "",
                     "<｜tool▁call▁begin｜>" + name + "<｜tool▁sep｜>{}<｜tool▁call▁end｜>", random, 3);
    expect_any_split(*format_named("v4"), "",
                     dsml("<｜DSML｜invoke name=\"" + name + "\">x</｜DSML｜invoke>"), random, 3);
  }
}

// A random JSON value as text, sometimes damaged.
std::string random_json(std::mt19937& random, int depth) {
  static const char* const kScalars[] = {"0",    "-1.5e+3",          "12",    "true", "null",
                                         "\"\"", "\"a\\n\\u00e9é\"", "false", "1E5"};
  const auto choice = random() % (depth > 3 ? 1 : 3);
  if (choice == 0) return kScalars[random() % std::size(kScalars)];
  std::string text(choice == 1 ? "[" : "{ ");
  for (size_t i = 0, count = random() % 4; i < count; ++i) {
    text += (i > 0 ? ", " : "") + (choice == 2 ? "\"k" + std::to_string(i) + "\" : " : std::string()) +
            random_json(random, depth + 1);
  }
  return text + (choice == 1 ? "]" : "}");
}

TEST(JsonScanner, AgreesWithTheParser) {
  std::mt19937 random(17);
  for (int round = 0; round < 20000; ++round) {
    std::string text = random_json(random, 0);
    // Characters stay whole: the scanner is given nothing else.
    char& damaged = text[random() % text.size()];
    if (random() % 2 && static_cast<uint8_t>(damaged) < 0x80)
      damaged = "{}[],:\"\\0-x. \n\x01"[random() % 15];
    JsonScanner scanner;
    size_t read = 0;
    while (read < text.size()) {
      const size_t size = std::min<size_t>(1 + random() % 5, text.size() - read);
      const size_t taken = scanner.feed(std::string_view(text).substr(read, size));
      read += taken;
      if (taken < size) break;
    }
    scanner.finish();
    const bool good = scanner.complete() && text.find_first_not_of(" \n", read) == std::string::npos;
    ASSERT_EQ(good, parse_json(text, "text").ok()) << text;
  }
}

TEST(JsonText, IsPythons) {
  const auto json = parse_json(
      R"({"a": [1, -2, 1.0, 0.1, 1e16, 1e15, 1e-5, 0.0001, -0.0, true, null], "é": {}, "s": "\u0001\b/\u007f🙂"})",
      "json");
  EXPECT_EQ(python_json(*json),
            "{\"a\": [1, -2, 1.0, 0.1, 1e+16, 1000000000000000.0, 1e-05, 0.0001, -0.0, true, null], "
            "\"é\": {}, \"s\": \"\\u0001\\b/\x7f🙂\"}");
  EXPECT_EQ(ascii_json_string("é🙂"), "\"\\u00e9\\ud83d\\ude42\"");
}

}  // namespace
}  // namespace fettle
