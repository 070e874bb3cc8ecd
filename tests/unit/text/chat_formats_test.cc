// Prompts: the fixtures, the makers' own tests, how a format is found, and requests that nobody should send.
#include "formats_fixtures.h"

namespace fettle {
namespace {

void expect_prompts(const ChatFormat& format, const Json& cases) {
  for (const auto& [name, test] : cases.items()) {
    const auto prompt = format.render(test, {});
    ASSERT_TRUE(prompt.ok()) << name << ": " << prompt.error().message();
    EXPECT_EQ(*prompt, test["prompt"].get<std::string>()) << name;
  }
}

TEST(ChatFormats, V4RendersItsCases) {
  const Json cases = chat_json("v4.json");
  EXPECT_EQ(cases.size(), 19u);
  expect_prompts(*format_named("v4"), cases);
}

TEST(ChatFormats, V32RendersItsCases) {
  const Json cases = chat_json("v3.2.json");
  EXPECT_EQ(cases.size(), 5u);
  expect_prompts(*format_named("v3.2"), cases);
}

void expect_family(const ChatFormat& format, const Json& data, const std::string& family,
                   const Json& variables) {
  ASSERT_GE(data["rendered"][family].size(), 15u);
  for (const auto& [name, expected] : data["rendered"][family].items()) {
    Json request = variables;
    request["messages"] = data["conversations"][name];
    for (const bool generate : {true, false}) {
      const auto prompt = format.render(request, {.add_generation_prompt = generate});
      ASSERT_TRUE(prompt.ok()) << family << " " << name << ": " << prompt.error().message();
      EXPECT_EQ(*prompt, expected[generate ? "generate" : "plain"]["prompt"].get<std::string>())
          << family << " " << name;
    }
  }
}

TEST(ChatFormats, V31SwitchesThinking) {
  const auto format = format_named("switch.jinja");
  EXPECT_EQ(format->id(), "v3.1");
  const Json data = chat_json("templates.json");
  expect_family(*format, data, "v3.1", Json::object());
  for (const char* on :
       {R"({"thinking": true})", R"({"thinking": {"type": "enabled"}})", R"({"enable_thinking": true})",
        R"({"thinking_mode": "thinking"})", R"({"chat_template_kwargs": {"thinking": true}})"}) {
    expect_family(*format, data, "v3.1_thinking", *parse_json(on, "switch"));
  }
}

std::string published(const std::string& name) {
  const char* shared = std::getenv("FETTLE_SHARED");
  auto text = read_file(std::string(shared ? shared : "") + "/published/" + name);
  return shared && text.ok() ? *text : std::string();
}

#define SKIP_WITHOUT_PUBLISHED()     \
  if (!std::getenv("FETTLE_SHARED")) \
  GTEST_SKIP() << "FETTLE_SHARED names no folder with the makers' own files"

TEST(ChatFormats, PublishedTemplatesAreFoundAndRendered) {
  SKIP_WITHOUT_PUBLISHED();
  for (const std::string family : {"r1", "v3"}) {
    TextFiles files = template_files("switch.jinja");
    files["chat_template.jinja"] = published(family + ".jinja");
    const auto format = load_format(files);
    ASSERT_TRUE(format);
    EXPECT_EQ(format->id(), family);
    expect_family(*format, chat_json("templates.json"), family, Json::object());
  }
}

TEST(ChatFormats, PublishedEncodingTests) {
  SKIP_WITHOUT_PUBLISHED();
  for (const int number : {1, 2, 3, 4}) {
    const std::string which = std::to_string(number);
    Json request = *parse_json(published("v4/test_input_" + which + ".json"), "test_input");
    if (request.is_array()) request = Json{{"messages", request}};
    request["thinking_mode"] = number == 4 ? "chat" : "thinking";
    const auto prompt = format_named("v4")->render(request, {});
    ASSERT_TRUE(prompt.ok()) << prompt.error().message();
    EXPECT_EQ(*prompt, published("v4/test_output_" + which + ".txt")) << which;
  }
  Json request = *parse_json(published("v3.2/test_input.json"), "test_input");
  request["thinking_mode"] = "thinking";
  const auto prompt = format_named("v3.2")->render(request, {});
  ASSERT_TRUE(prompt.ok()) << prompt.error().message();
  std::string expected = published("v3.2/test_output.txt");
  if (expected.ends_with("\n")) expected.pop_back();
  EXPECT_EQ(*prompt, expected);
}

TEST(ChatFormats, AreFoundByTemplateTokensOrModelType) {
  const auto id = [](const TextFiles& files) { return std::string(load_format(files)->id()); };
  const std::string tokens =
      R"({"added_tokens": [{"content": "<｜User｜>"}, {"content": "<\uff5caction\uff5c>"}]})";
  EXPECT_EQ(id({{"model_type", "deepseek_v4"}}), "v4");
  EXPECT_EQ(id({{"tokenizer.json", tokens}}), "v4");
  EXPECT_EQ(id({{"model_type", "deepseek_v32\n"}}), "v3.2");
  EXPECT_EQ(
      id({{"model_type", "deepseek_v32"}, {"chat_template.jinja", "<｜tool▁calls▁begin｜><｜tool▁sep｜>"}}),
      "v3.1");
  EXPECT_EQ(id(template_files("fenced.jinja")), "r1");
  EXPECT_EQ(id({{"chat_template.jinja", "<｜tool▁calls▁begin｜>```json"}}), "v3");
  EXPECT_EQ(id(template_files("chatml.jinja")), "jinja");
  EXPECT_EQ(id({{"model_type", "deepseek_v4"}, {"chat_template.jinja", "x"}}), "jinja");
  EXPECT_EQ(id({{"model_type", "deepseek_v4"}, {"chat_format", "v3.2\n"}}), "v3.2");
  for (const auto& [files, part] : std::vector<std::pair<TextFiles, std::string>>{
           {{}, "no chat template; use --raw"},
           {{{"model_type", "llama"}}, "no chat template; use --raw"},
           {{{"chat_format", "v9"}}, "\"v9\"; known are: v4, v3.2"}}) {
    const auto format = load_chat_format(files);
    ASSERT_FALSE(format.ok());
    EXPECT_EQ(format.error().code(), Code::kUnsupported);
    EXPECT_NE(format.error().message().find(part), std::string::npos) << format.error().message();
  }
}

TEST(ChatFormats, TheFoundIdIsKept) {
  TextFiles files = {{"model_type", "deepseek_v4"}, {"tokenizer.json", "{}"}};
  ASSERT_TRUE(settle_chat_format(&files).ok());
  EXPECT_EQ(files, (TextFiles{{"chat_format", "v4\n"}, {"tokenizer.json", "{}"}}));
  ASSERT_TRUE(settle_chat_format(&files).ok());
  EXPECT_EQ(files["chat_format"], "v4\n");
  TextFiles none = {{"tokenizer.json", "{}"}};
  ASSERT_TRUE(settle_chat_format(&none).ok());
  EXPECT_EQ(none.size(), 1u);
  TextFiles wrong = {{"chat_format", "v9"}};
  EXPECT_FALSE(settle_chat_format(&wrong).ok());
}

TEST(ChatFormats, EffortAndSwitches) {
  const auto rendered = [](const std::string& id, const std::string& fields) {
    const auto request =
        parse_json(R"({"messages": [{"role": "user", "content": "q"}], )" + fields + "}", "request");
    const auto prompt = format_named(id)->render(*request, {});
    return prompt.ok() ? *prompt : "error: " + prompt.error().message();
  };
  const std::string user = "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜>";
  EXPECT_EQ(rendered("v4", R"("x": 1)"), user + "<think>");
  EXPECT_EQ(rendered("v3.2", R"("x": 1)"), user + "</think>");
  EXPECT_EQ(rendered("v4", R"("reasoning_effort": "none")"), user + "</think>");
  EXPECT_EQ(rendered("v4", R"("reasoning_effort": "low")"), user + "<think>");
  EXPECT_NE(rendered("v4", R"("reasoning_effort": "ultra")").find("Absolute maximum"), std::string::npos);
  EXPECT_EQ(rendered("v4", R"("thinking": {"type": "disabled"})"), user + "</think>");
  EXPECT_EQ(rendered("v3.2", R"("chat_template_kwargs": {"enable_thinking": true})"), user + "<think>");
  EXPECT_EQ(
      rendered("v4", R"("reasoning_effort": "so-so")"),
      "error: reasoning_effort is string, expected none, minimal, low, medium, high, xhigh, max or ultra");
  EXPECT_EQ(rendered("v4", R"("thinking": {"type": 1})"),
            "error: thinking is object, expected true, false or {\"type\": \"enabled\"|\"disabled\"}");
  EXPECT_EQ(rendered("v4", R"("drop_thinking": "no")").substr(0, 6), "error:");
}

TEST(ChatFormats, RequestToolsStandOnTheSystemMessage) {
  const auto request = parse_json(R"({"messages": [{"role": "user", "content": "q"}, {"role": 3}],
    "tools": [{"type": "function", "function": {"name": "f", "n": 1.0, "big": 1e22, "s": "é\"\n"}}]})",
                                  "request");
  for (const std::string id : {"v4", "v3.2"}) {
    Json good = *request;
    good["messages"].erase(1);
    const auto prompt = format_named(id)->render(good, {});
    ASSERT_TRUE(prompt.ok()) << prompt.error().message();
    EXPECT_TRUE(prompt->starts_with("<｜begin▁of▁sentence｜>\n\n## Tools")) << *prompt;
    EXPECT_NE(prompt->find("{\"name\": \"f\", \"n\": 1.0, \"big\": 1e+22, \"s\": \"é\\\"\\n\"}\n"),
              std::string::npos)
        << *prompt;
    // The message that was made for them does not count.
    good["messages"][0] = {{"role", "developer"}, {"content", ""}};
    EXPECT_NE(format_named(id)->render(good, {}).error().message().find("messages[0].content is empty"),
              std::string::npos);
  }
}

TEST(ChatFormats, ToolContentMayBeParts) {
  const auto request = parse_json(
      R"({"thinking": false, "messages": [{"role": "user", "content": [{"type": "text", "text": "w"}]},
    {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": [1, 2.50]}}}]},
    {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "A"}, {"type": "image"}]}]})",
      "request");
  const auto prompt = format_named("v4")->render(*request, {});
  ASSERT_TRUE(prompt.ok()) << prompt.error().message();
  EXPECT_NE(prompt->find("string=\"false\">[1, 2.5]</"), std::string::npos) << *prompt;
  EXPECT_NE(prompt->find("<tool_result>A\n\n[Unsupported image]</tool_result>"), std::string::npos)
      << *prompt;
}

struct Refused {
  std::string format, request, message;
};

TEST(ChatFormats, ErrorsNameMessageAndField) {
  const std::vector<Refused> cases = {
      {"v4", "[]", "the request is array, expected an object with \"messages\""},
      {"v4", "{}", "messages is missing, expected a list"},
      {"v4", R"({"messages": "hello"})", "messages is string, expected a list"},
      {"v4", R"({"messages": ["hello"]})", "messages[0] is string"},
      {"jinja", R"({"messages": [{"content": "x"}]})", "messages[0].role is missing, expected a string"},
      {"v4", R"({"messages": [{"role": "user", "content": "x"}, {"role": ["user"]}]})",
       "messages[1].role is array"},
      {"v4", R"({"messages": [{"role": "robot", "content": "x"}]})",
       "messages[0].role is \"robot\", expected one of: system, dev"},
      {"v3.2", R"({"messages": [{"role": "latest_reminder", "content": "x"}]})",
       "messages[0].role is \"latest_reminder\""},
      {"jinja", R"({"messages": [{"role": "user", "content": 7}]})",
       "messages[0].content is number, expected a string, null or"},
      {"jinja", R"({"messages": [{"role": "user", "content": [1]}]})", "messages[0].content[0] is number"},
      {"jinja", R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})",
       "messages[0].content[0].text is missing"},
      {"r1", R"({"messages": [{"role": "assistant"}]})",
       "messages[0].content is missing, expected a string or null"},
      {"r1", R"({"messages": [{"role": "user", "content": []}]})",
       "messages[0].content is array, expected a string or null"},
      {"r1", R"({"messages": [{"role": "assistant", "content": null, "tool_calls": [{"type": "function",
           "function": {"name": "f", "arguments": {}}}]}]})",
       "messages[0].tool_calls[0].function.arguments is object, expected the text"},
      {"v4", R"({"messages": [{"role": "assistant", "tool_calls": {}}]})",
       "messages[0].tool_calls is object, expected a list"},
      {"v4", R"({"messages": [{"role": "assistant", "tool_calls": [7]}]})",
       "messages[0].tool_calls[0] is number"},
      {"v4", R"({"messages": [{"role": "assistant", "tool_calls": [{}]}]})",
       "messages[0].tool_calls[0].function is missing"},
      {"v4", R"({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 1}}]}]})",
       "function.name is number"},
      {"v4", R"({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]})",
       "function.arguments is missing"},
      {"v4", R"({"messages": [{"role": "assistant", "reasoning_content": 1}]})",
       "messages[0].reasoning_content is number"},
      {"v4", R"({"messages": [{"role": "user", "content": "x", "task": "dance"}]})",
       "messages[0].task is \"dance\", expected action"},
      {"v4", R"({"messages": [{"role": "user", "content": "x", "task": 1}]})", "messages[0].task is number"},
      {"v4", R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
       "messages[0].content[0] is of type \"image_url\""},
      {"v4", R"({"messages": [], "tools": [{"type": "function"}]})", "tools[0].function is missing"},
      {"v4", R"({"messages": [], "tools": 3})", "tools is number, expected a list"},
      {"v4", R"({"messages": [{"role": "system", "tools": [[]]}]})", "messages[0].tools[0] is array"},
      {"v3.2", R"({"messages": [{"role": "tool", "content": "x"}]})",
       "messages[0] is a tool's result without a call"},
      {"v3.2",
       R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "thinking": true})",
       "messages[1].reasoning_content is missing"},
  };
  for (const Refused& test : cases) {
    const auto request = parse_json(test.request, "request");
    ASSERT_TRUE(request.ok()) << test.request;
    const auto format = test.format == "r1"      ? "fenced.jinja"
                        : test.format == "jinja" ? "chatml.jinja"
                                                 : test.format;
    const auto prompt = format_named(format)->render(*request, {});
    ASSERT_FALSE(prompt.ok()) << test.request << "\n" << *prompt;
    EXPECT_NE(prompt.error().message().find(test.message), std::string::npos) << prompt.error().message();
  }
}

TEST(ChatFormats, DeepRequestsAreRefused) {
  Json deep = "x";
  for (int i = 0; i < 2000; ++i) deep = Json::array({std::move(deep)});
  for (const std::string& name : kFormats) {
    for (Json request : {Json{{"messages", {{{"role", "user"}, {"content", "q"}, {"extra", deep}}}}},
                         Json{{"messages", Json::array()}, {"tools", deep}}}) {
      const auto prompt = format_named(name)->render(request, {.from_api = true});
      ASSERT_FALSE(prompt.ok());
      EXPECT_NE(prompt.error().message().find("nested deeper than 100"), std::string::npos)
          << prompt.error().message();
    }
  }
}

// What API clients send and templates do not take.
TEST(ChatFormats, RequestsOfClientsAreAdapted) {
  const auto request = *parse_json(R"({"messages": [{"role": "developer", "content": "D"},
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
    {"role": "tool", "content": "r", "tool_call_id": "1"}]})",
                                   "request");
  for (const std::string name : {"fenced.jinja", "chatml.jinja", "switch.jinja"}) {
    const auto prompt = format_named(name)->render(request, {.from_api = true});
    ASSERT_TRUE(prompt.ok()) << name << ": " << prompt.error().message();
    EXPECT_NE(prompt->find("a\nb"), std::string::npos) << *prompt;
    EXPECT_NE(prompt->find("{\"x\": 1}"), std::string::npos) << *prompt;
    EXPECT_EQ(prompt->find("developer"), std::string::npos) << *prompt;
  }
  EXPECT_FALSE(format_named("fenced.jinja")->render(request, {}).ok());
}

TEST(ChatFormats, NoGenerationPrompt) {
  const Json request = *parse_json(R"({"thinking": true, "messages": [{"role": "user", "content": "q"},
    {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "content": "x", "tool_call_id": "1"}]})",
                                   "request");
  const RenderOptions plain{.add_generation_prompt = false};
  EXPECT_TRUE(format_named("v4")->render(request, plain).value().ends_with("<tool_result>x</tool_result>"));
  EXPECT_TRUE(
      format_named("v4")->render(request, {}).value().ends_with("x</tool_result><｜Assistant｜><think>"));
  EXPECT_TRUE(format_named("v3.2")
                  ->render(request, plain)
                  .value()
                  .ends_with("<result>x</result>\n</function_results>"));
  EXPECT_TRUE(format_named("v3.2")->render(request, {}).value().ends_with("</function_results>\n\n<think>"));
}

}  // namespace
}  // namespace fettle
