#include "text_fixtures.h"

namespace fettle {
namespace {

Result<std::string> render(const std::string& source, Json variables = Json::object(), bool generate = true) {
  auto chat_template = ChatTemplate::load({{"chat_template.jinja", source}});
  if (!chat_template) return chat_template.error();
  if (!variables.contains("messages")) variables["messages"] = Json::array();
  return (*chat_template)->render(variables, generate);
}

void expect_renders(const std::string& source, const std::string& expected,
                    const Json& variables = Json::object()) {
  const auto text = render(source, variables);
  ASSERT_TRUE(text.ok()) << source << "\n" << text.error().message();
  EXPECT_EQ(*text, expected) << source;
}

void expect_refused(const std::string& source, const std::string& part,
                    const Json& variables = Json::object()) {
  const auto text = render(source, variables);
  ASSERT_FALSE(text.ok()) << source << "\n" << *text;
  EXPECT_EQ(text.error().code(), Code::kBadInput);
  EXPECT_NE(text.error().message().find(part), std::string::npos) << text.error().message();
}

TEST(ChatTemplate, ConversationsRenderAsInJinja2) {
  const Json data = data_json("reasoning.json");
  TextFiles files = {{"chat_template.jinja", data_file("reasoning.jinja")}};
  files["tokenizer_config.json"] =
      dump_json({{"bos_token", data["bos_token"]}, {"eos_token", {{"content", data["eos_token"]}}}});
  const auto chat_template = ChatTemplate::load(files);
  ASSERT_TRUE(chat_template.ok()) << chat_template.error().message();
  ASSERT_GE(data["cases"].size(), 8u);
  for (const auto& [name, test] : data["cases"].items()) {
    for (const bool generate : {true, false}) {
      const auto prompt = (*chat_template)->render(test["variables"], generate);
      ASSERT_TRUE(prompt.ok()) << name << ": " << prompt.error().message();
      EXPECT_EQ(*prompt, test[generate ? "generate" : "plain"].get<std::string>()) << name;
    }
  }
}

// The makers' own templates may not be copied here; where they are, every conversation is checked.
TEST(ChatTemplate, PublishedTemplates) {
  const char* shared = std::getenv("FETTLE_SHARED");
  if (!shared) GTEST_SKIP() << "FETTLE_SHARED names no folder with published/{r1,v3}.jinja";
  const auto data = read_json_file(std::string(shared) + "/fixtures/chat/templates.json");
  ASSERT_TRUE(data.ok()) << data.error().message();
  for (const char* family : {"r1", "v3"}) {
    const auto source = read_file(std::string(shared) + "/published/" + family + ".jinja");
    ASSERT_TRUE(source.ok()) << source.error().message();
    TextFiles files = {{"chat_template.jinja", *source}};
    files["tokenizer_config.json"] =
        dump_json({{"bos_token", (*data)["bos_token"]}, {"eos_token", (*data)["eos_token"]}});
    const auto chat_template = ChatTemplate::load(files);
    ASSERT_TRUE(chat_template.ok()) << chat_template.error().message();
    for (const auto& [name, expected] : (*data)["rendered"][family].items()) {
      const Json variables = {{"messages", (*data)["conversations"][name]}};
      for (const char* ending : {"generate", "plain"}) {
        const auto prompt = (*chat_template)->render(variables, ending == std::string("generate"));
        ASSERT_TRUE(prompt.ok()) << family << " " << name << ": " << prompt.error().message();
        EXPECT_EQ(*prompt, expected[ending]["prompt"].get<std::string>())
            << family << " " << name << " " << ending;
      }
    }
  }
}

TEST(ChatTemplate, FindsTheTemplate) {
  const Json variables = {{"messages", Json::array()}};
  const auto rendered = [&](const TextFiles& files) {
    const auto chat_template = ChatTemplate::load(files);
    EXPECT_TRUE(chat_template.ok()) << chat_template.error().message();
    return chat_template.ok() ? *(*chat_template)->render(variables, true) : std::string();
  };
  const std::string text = R"({"chat_template": "from config"})";
  const std::string list =
      R"({"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]})";
  EXPECT_EQ(rendered({{"tokenizer_config.json", text}}), "from config");
  EXPECT_EQ(rendered({{"tokenizer_config.json", list}}), "yes");
  EXPECT_EQ(rendered({{"tokenizer_config.json", list}, {"chat_template.jinja", "from file"}}), "from file");

  for (const TextFiles& files :
       {TextFiles{}, TextFiles{{"tokenizer_config.json", R"({"chat_template": null})"}}}) {
    const auto none = ChatTemplate::load(files);
    ASSERT_FALSE(none.ok());
    EXPECT_EQ(none.error().code(), Code::kUnsupported);
    EXPECT_EQ(none.error().message(), "the model has no chat template; use --raw");
  }
  for (const char* wrong :
       {R"({"chat_template": 3})", R"({"chat_template": [3]})", R"({"chat_template": [{"name": "a"}]})"}) {
    const auto refused = ChatTemplate::load({{"tokenizer_config.json", wrong}});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), Code::kBadInput);
    EXPECT_NE(refused.error().message().find("chat_template"), std::string::npos)
        << refused.error().message();
  }
}

TEST(ChatTemplate, WhitespaceAndTags) {
  expect_renders("{% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb");
  expect_renders("a\n{# note #}\nb {%- if true -%}  c  {%- endif %}", "a\nbc");
  expect_renders("{% generation %}\nown words{%- endgeneration -%}\n!", "own words!");
  expect_renders("{% raw %}{{ x }}{% endraw %}{{ '<b> & \"q\"' }}", "{{ x }}<b> & \"q\"");
  expect_renders(
      "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% "
      "endfor %}",
      "02");
  expect_renders("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ nothing }}",
                 "TrueTrueTrue");
}

TEST(ChatTemplate, PythonsMethods) {
  expect_renders(
      "{{ 'é abc abc'.find('abc') }} {{ 'abc'.find('x') }} {{ 'é abc abc'.rfind('abc') }} {{ "
      "'aaa'.count('a') }} {{ 'ab'.count('') }}",
      "2 -1 6 3 3");
  expect_renders(
      "{{ 'a,b,c'.split(',', maxsplit=1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a  b c '.split(None, 1) }}{{ ' a "
      "b '.split() }}",
      "['a', 'b,c']['a,b', 'c']['a', 'b c ']['a', 'b']");
  expect_renders(
      "{{ 'x</think>y'.partition('</think>')[2] }}{{ 'a=b'.rpartition('=')[0] }}{{ "
      "'abc'.removeprefix('a').removesuffix('c') }}",
      "yab");
  expect_renders(
      "{{ ''.isdigit() }}{{ '12'.isdigit() }}{{ 'a1'.islower() }}{{ '1'.islower() }}{{ '-7'.zfill(4) }}{{ "
      "'a'.ljust(3) }}|",
      "FalseTrueTrueFalse-007a  |");
  expect_renders(
      "{{ [3, 1].index(1) }}{{ {'a': 1}.get('b', 2) }}{% for k, v in {'x': 1, 'y': 2}.items() %}{{ k }}{{ v "
      "}}{% endfor %}",
      "12x1y2");
  expect_renders("{{ [1, 2, 3][::-1] }}{{ [1, 2, 3][1:] }}{{ [1, 2, 3][-1] }}{{ 'héllo'[1:3] }}",
                 "[3, 2, 1][2, 3]3él");
  expect_renders(
      "{{ 'x'|int }}{{ '7'|int + 1 }}{{ '0x1f'|int(base=16) }}{{ '2.5'|float }}{{ 'a' is sequence }}{{ {} is "
      "sequence }}",
      "08312.5TrueTrue");
}

TEST(ChatTemplate, PythonsSpelling) {
  expect_renders("{{ [1, 'it\\'s', none, true, 1.5, {'k': 'v\\n'}] }}",
                 "[1, \"it's\", None, True, 1.5, {'k': 'v\\n'}]");
  expect_renders("{{ 1e16 }} {{ 0.00001 }} {{ 1.0 }} {{ 123456789.25 }} {{ 0.1 }}",
                 "1e+16 1e-05 1.0 123456789.25 0.1");
  expect_renders("{{ {'a': [1, 2.0, none, true], 'é': '<&\\'\"\\n'} | tojson }}",
                 "{\"a\": [1, 2.0, null, true], \"é\": \"<&'\\\"\\n\"}");
  expect_renders("{{ {'b': [], 'a': {'x': 1}} | tojson(indent=2, sort_keys=true) }}",
                 "{\n  \"a\": {\n    \"x\": 1\n  },\n  \"b\": []\n}");
  expect_renders("{{ {'é': [1, 2]} | tojson(ensure_ascii=true, separators=(',', ':')) }}",
                 "{\"\\u00e9\":[1,2]}");
  // The order of keys is the order in which they were given.
  expect_renders("{{ v | tojson }}", R"({"z": 1, "a": {"y": [], "b": null}})",
                 {{"v", {{"z", 1}, {"a", {{"y", Json::array()}, {"b", nullptr}}}}}});
}

TEST(ChatTemplate, StrftimeNow) {
  const auto year = render("{{ strftime_now('%Y') }}");
  ASSERT_TRUE(year.ok()) << year.error().message();
  EXPECT_EQ(year->size(), 4u);
  EXPECT_GE(std::atoi(year->c_str()), 2024);
  expect_refused(
      "{{ strftime_now('" + std::string(400, 'x') + "%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A%A') }}",
      "strftime_now");
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  expect_refused("a\nb\n{% if %}", "chat template line 3");
  expect_refused("a\n{{ messages[0].content + 1 }}", "chat template line 2",
                 {{"messages", {{{"content", "x"}}}}});
  expect_refused("\n\n\n{{ raise_exception('roles must alternate') }}", "roles must alternate");
  expect_refused("\n\n\n{{ raise_exception('roles must alternate') }}", "line 4");
  expect_refused("{{ 'x' + messages[0]['content'] }}", "line 1", {{"messages", {{{"role", "user"}}}}});
  expect_refused("{{ no_function() }}", "no_function");
  expect_refused("{{ 1 | no_filter }}", "no_filter");
  expect_refused("{% unknown_tag %}", "unknown_tag");
  expect_refused("{{ nothing | tojson }}", "tojson");
  expect_refused("{{ 'a\xff' }}", "not UTF-8");
}

TEST(ChatTemplate, VariablesMustBeAConversation) {
  const auto chat_template = *ChatTemplate::load({{"chat_template.jinja", "x"}});
  for (const Json& wrong : {Json::array(), Json("text"), Json::object(), Json{{"messages", "text"}}}) {
    const auto text = chat_template->render(wrong, true);
    ASSERT_FALSE(text.ok());
    EXPECT_NE(text.error().message().find("messages"), std::string::npos) << text.error().message();
  }
  EXPECT_TRUE(chat_template->render({{"messages", {{{"content", "broken \xff text"}}}}}, true).ok());
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  const auto repeat = [](std::string_view part, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += part;
    return text;
  };
  expect_refused("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "fuel");
  expect_refused("{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}", "recursion");
  expect_refused("{{ " + repeat("(", 50000), "recursion");
  expect_refused(std::string(300000, 'x'), "expected up to");
  expect_renders("{{ 1" + repeat("+1", 100000) + " }}", "100001");
  expect_renders("{{ " + repeat("-", 200000) + "1 }}", "1");
  EXPECT_TRUE(render("{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% "
                     "endfor %}{{ ns.x }}")
                  .ok());
}

// One step may double a text, so steps do not bound memory.
TEST(ChatTemplate, TemplatesThatTakeAllMemoryAreRefused) {
  const std::string doubling = "{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
  const std::vector<std::string> sources = {"{% set ns = namespace(x='ab') %}" + doubling,
                                            "{% for i in range(90000) %}{{ 'x' * 9000 }}{% endfor %}",
                                            "{{ 'x' * 99999999999 }}",
                                            "{{ '%99999999999d' | format(1) }}{{ 'x' | indent(9) }}"};
  for (const std::string& source : sources) {
    const auto chat_template = ChatTemplate::load({{"chat_template.jinja", source}});
    ASSERT_TRUE(chat_template.ok()) << source;
    for (int time = 0; time < 2; ++time) {
      const auto text = (*chat_template)->render({{"messages", Json::array()}}, true);
      ASSERT_FALSE(text.ok()) << source << "\n" << text->size();
      EXPECT_NE(text.error().code(), Code::kInternal) << source << "\n" << text.error().message();
    }
  }
  const auto refused = render("{% set ns = namespace(x='ab') %}" + doubling);
  EXPECT_EQ(refused.error().code(), Code::kResource);
  EXPECT_NE(refused.error().message().find("more than 512 MiB of memory"), std::string::npos)
      << refused.error().message();
  EXPECT_TRUE(render("still works").ok());
}

TEST(ChatTemplate, DeepMessagesAreRefused) {
  Json deep = Json::array();
  for (int i = 0; i < 2000; ++i) deep = Json::array({std::move(deep)});
  expect_refused("{{ messages | tojson }}", "recursion limit", {{"messages", deep}});
}

}  // namespace
}  // namespace fettle
