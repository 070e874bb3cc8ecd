// The chat formats under test, each made from small files as a model has them.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>

#include "text/formats/format.h"
#include "text_fixtures.h"

namespace fettle {

inline Json chat_json(const std::string& name) {
  auto json = read_json_file(std::string(FETTLE_TEST_DATA) + "/chat/" + name);
  EXPECT_TRUE(json.ok()) << json.error().message();
  return json.ok() ? *json : Json();
}

inline TextFiles template_files(const std::string& jinja) {
  auto source = read_file(std::string(FETTLE_TEST_DATA) + "/chat/" + jinja);
  EXPECT_TRUE(source.ok());
  return {{"chat_template.jinja", source.value()},
          {"tokenizer_config.json",
           R"({"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"})"}};
}

inline std::shared_ptr<const ChatFormat> load_format(const TextFiles& files) {
  auto format = load_chat_format(files);
  EXPECT_TRUE(format.ok()) << format.error().message();
  return format.ok() ? *format : nullptr;
}

// By the name of a template, or by id for those without one.
inline std::shared_ptr<const ChatFormat> format_named(const std::string& name) {
  static std::map<std::string, std::shared_ptr<const ChatFormat>> made;
  auto& format = made[name];
  if (!format)
    format = load_format(name.ends_with(".jinja") ? template_files(name) : TextFiles{{"chat_format", name}});
  return format;
}

inline const std::vector<std::string> kFormats = {"v4",           "v3.2",         "switch.jinja",
                                                  "fenced.jinja", "chatml.jinja", "bare.jinja"};

// A reply in short: [reasoning|content|name(arguments) name(arguments)|number of errors].
inline std::string shown(const ParsedReply& reply) {
  std::string calls;
  for (const auto& call : reply.calls)
    calls += (calls.empty() ? "" : " ") + call.name + "(" + call.arguments + ")";
  return "[" + reply.reasoning + "|" + reply.content + "|" + calls + "|" +
         std::to_string(reply.errors.size()) + "]";
}

template <typename NextSize>
ParsedReply read_in_pieces(const ChatFormat& format, const std::string& prompt, std::string_view text,
                           NextSize next_size) {
  const auto parser = format.parser({.prompt = prompt});
  ParsedReply reply;
  while (!text.empty()) {
    const size_t size = std::min<size_t>(next_size(), text.size());
    reply.add(parser->feed(text.substr(0, size)));
    text.remove_prefix(size);
  }
  reply.add(parser->finish());
  return reply;
}

// The whole text, byte by byte and in random pieces: always the same.
inline void expect_any_split(const ChatFormat& format, const std::string& prompt, const std::string& text,
                             std::mt19937& random, int rounds) {
  const std::string whole = shown(read_in_pieces(format, prompt, text, [] { return std::string::npos; }));
  ASSERT_EQ(shown(read_in_pieces(format, prompt, text, [] { return 1; })), whole) << format.id() << "\n"
                                                                                  << text;
  for (int round = 0; round < rounds; ++round) {
    ASSERT_EQ(shown(read_in_pieces(format, prompt, text, [&] { return random() % 9; })), whole)
        << format.id() << "\n"
        << text;
  }
}

}  // namespace fettle
