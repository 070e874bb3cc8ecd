// A random answer, written into a prompt by the format and read back by its parser, is the same answer.
#include "formats_fixtures.h"
#include "text/formats/self_test.h"

namespace fettle {
namespace {

class Maker {
 public:
  explicit Maker(uint32_t seed) : random_(seed) {}

  size_t below(size_t limit) { return random_() % limit; }

  std::string text() {
    static const char* const kPieces[] = {"word", " ", "é",  "中文", "\U0001F642", "\"", "\\", "\n",
                                          "<",    ">", "</", "｜",   "{",          "}",  "`",  "1"};
    std::string text = "x";
    for (size_t i = below(12); i > 0; --i) text += kPieces[below(std::size(kPieces))];
    return text + "y";
  }

  Json value(int depth) {
    switch (below(depth > 2 ? 5 : 7)) {
      case 0:
        return text();
      case 1:
        return static_cast<int64_t>(below(1000)) - 500;
      case 2:
        return (static_cast<double>(below(100000)) - 500) / 64;
      case 3:
        return below(2) == 0;
      case 4:
        return nullptr;
      case 5: {
        Json list = Json::array();
        for (size_t i = below(3); i > 0; --i) list.push_back(value(depth + 1));
        return list;
      }
      default:
        return object(depth + 1);
    }
  }

  Json object(int depth) {
    Json object = Json::object();
    for (size_t i = below(4); i > 0; --i) object["key" + std::to_string(i) + "é "] = value(depth);
    return object;
  }

  Json call(size_t number) {
    return {{"id", "call_" + std::to_string(number)},
            {"type", "function"},
            {"function",
             {{"name", "tool_" + std::to_string(below(9))}, {"arguments", dump_json(object(0), -1)}}}};
  }

 private:
  std::mt19937 random_;
};

struct Answer {
  std::string reasoning, content;
  Json calls = Json::array();
};

Json request_with(const Answer* answer, bool content_beside_calls) {
  Json messages = {{{"role", "system"},
                    {"content", "S"},
                    {"tools", {{{"type", "function"}, {"function", {{"name", "f"}}}}}}},
                   {{"role", "user"}, {"content", "q"}}};
  if (answer) {
    Json message = {{"role", "assistant"}, {"content", answer->content}};
    if (!answer->calls.empty()) {
      message["tool_calls"] = answer->calls;
      if (!content_beside_calls) message["content"] = nullptr;
    }
    if (!answer->reasoning.empty()) message["reasoning_content"] = answer->reasoning;
    messages.push_back(message);
  }
  return {{"messages", messages}};
}

void expect_round_trip(const ChatFormat& format, Answer answer, const Json& switches,
                       bool content_beside_calls) {
  const auto render = [&](const Answer* with, bool generate) {
    Json request = request_with(with, content_beside_calls);
    request.update(switches);
    const auto prompt = format.render(request, {.add_generation_prompt = generate, .from_api = true});
    EXPECT_TRUE(prompt.ok()) << prompt.error().message();
    return prompt.ok() ? *prompt : std::string();
  };
  const std::string prompt = render(nullptr, true), whole = render(&answer, false);
  ASSERT_TRUE(whole.starts_with(prompt)) << prompt << "\n" << whole;
  std::string reply = whole.substr(prompt.size());
  for (const std::string end : {"<｜end▁of▁sentence｜>", "<|im_end|>\n"}) {
    if (reply.ends_with(end)) reply.resize(reply.size() - end.size());
  }
  std::mt19937 random(1);
  const auto read = read_in_pieces(format, prompt, reply, [&] { return random() % 7; });
  EXPECT_TRUE(read.errors.empty()) << reply << "\n" << read.errors[0];
  EXPECT_EQ(read.reasoning, answer.reasoning) << reply;
  EXPECT_EQ(read.content, answer.calls.empty() || content_beside_calls ? answer.content : "") << reply;
  ASSERT_EQ(read.calls.size(), answer.calls.size()) << reply;
  for (size_t i = 0; i < answer.calls.size(); ++i) {
    const Json& function = answer.calls[i]["function"];
    EXPECT_EQ(read.calls[i].name, function["name"].get<std::string>());
    const auto got = parse_json(read.calls[i].arguments, "arguments");
    ASSERT_TRUE(got.ok()) << read.calls[i].arguments;
    EXPECT_EQ(*got, *parse_json(function["arguments"].get<std::string>(), "arguments"));
  }
}

TEST(RoundTrip, RandomAnswers) {
  const Json on = {{"thinking", true}}, off = {{"thinking", false}};
  for (uint32_t seed = 0; seed < 300; ++seed) {
    Maker maker(seed);
    Answer answer{.reasoning = {}, .content = maker.below(3) ? maker.text() : ""};
    for (size_t i = 0, count = maker.below(4); i < count; ++i) answer.calls.push_back(maker.call(i));
    expect_round_trip(*format_named("v4"), answer, off, true);
    expect_round_trip(*format_named("v3.2"), answer, off, true);
    expect_round_trip(*format_named("switch.jinja"), answer, off, true);
    expect_round_trip(*format_named("chatml.jinja"), answer, Json::object(), true);
    if (answer.calls.size() < 2) {
      Answer alone = answer;
      if (!alone.calls.empty()) alone.content.clear();
      expect_round_trip(*format_named("bare.jinja"), alone, Json::object(), true);
    }
    answer.reasoning = maker.text();
    expect_round_trip(*format_named("v4"), answer, on, true);
    expect_round_trip(*format_named("v3.2"), answer, on, true);
  }
}

TEST(RoundTrip, SelfTestOfEveryFormat) {
  const auto tokenizer = grammar_tokenizer("deepseek-v3");
  for (const std::string& name : kFormats) {
    const auto check = test_chat_format(*format_named(name), *tokenizer);
    ASSERT_TRUE(check.ok()) << name << ": " << check.error().message();
    EXPECT_TRUE(check->passed) << name << ": " << check->detail;
    EXPECT_TRUE(check->calls) << name << ": " << check->detail;
    EXPECT_TRUE(check->reasoning) << name << ": " << check->detail;
  }
}

TEST(RoundTrip, SelfTestSeesABrokenTemplate) {
  const auto tokenizer = grammar_tokenizer("deepseek-v3");
  const auto deaf = load_format({{"chat_template.jinja", "{{ messages[0].content }}"}});
  const auto check = test_chat_format(*deaf, *tokenizer);
  ASSERT_TRUE(check.ok());
  EXPECT_FALSE(check->passed);
  EXPECT_NE(check->detail.find("lacks"), std::string::npos) << check->detail;
  const auto refusing = load_format({{"chat_template.jinja", "{{ raise_exception('no') }}"}});
  EXPECT_FALSE(test_chat_format(*refusing, *tokenizer).ok());
  // Calls that the format's parser cannot read.
  TextFiles files = template_files("switch.jinja");
  std::string& source = files["chat_template.jinja"];
  source.replace(source.find("c.function.arguments"), 20, "c.function.name");
  const auto broken = test_chat_format(*load_format(files), *tokenizer);
  ASSERT_TRUE(broken.ok());
  EXPECT_FALSE(broken->passed);
  EXPECT_NE(broken->detail.find("not read back"), std::string::npos) << broken->detail;
}

}  // namespace
}  // namespace fettle
