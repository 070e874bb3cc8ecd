// Text in and out of a model: tokenizer, streaming detokeniser and chat template (formats/ renders and reads
// conversations with it). Made from the text files of a checkpoint or artifact (name -> contents:
// tokenizer.json, tokenizer_config.json, generation_config.json, chat_template.jinja, chat_format,
// model_type). The Rust library behind it (native/text) is included by this folder only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace fettle {

using TextFiles = std::map<std::string, std::string>;

// Immutable and safe to share between threads.
class Tokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> load(const TextFiles& files);
  ~Tokenizer();

  // Special-token text in `text` is recognised; special tokens are *added* (BOS...) only if asked for.
  Result<std::vector<int32_t>> encode(std::string_view text, bool add_special) const;
  Result<std::string> decode(const std::vector<int32_t>& ids, bool skip_special) const;
  int64_t vocab_size() const;  // 1 + the largest id
  std::optional<int32_t> token_id(std::string_view token) const;
  std::optional<std::string> token_text(int32_t id) const;  // the vocabulary's own spelling
  bool is_special(int32_t id) const;
  std::optional<int32_t> bos() const;       // of the tokenizer's files, not of config.json (they may differ)
  std::vector<int32_t> end_tokens() const;  // eos of tokenizer_config and every eos of generation_config

 private:
  friend class StreamDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Ids one by one -> text. Never returns part of a UTF-8 character: the concatenation of all push() and the
// final flush() equals decode() of all ids (bytes that never become a character come out as U+FFFD, at flush
// or when the next character starts).
class StreamDecoder {
 public:
  // kept: special tokens that are written even so, because a reader needs them. Only tokenizers whose tokens
  // are bytes can keep some.
  StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special,
                const std::vector<std::string>& kept = {});
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  std::string push(int32_t id);
  std::string flush();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The model's own chat template (Jinja, as transformers renders it: trim_blocks, lstrip_blocks, Python's
// string and dict methods, tojson, raise_exception, strftime_now, namespace). Immutable and safe to share.
class ChatTemplate {
 public:
  // NotFound is an error of code kUnsupported: "the model has no chat template; use --raw".
  static Result<std::shared_ptr<const ChatTemplate>> load(const TextFiles& files);
  ~ChatTemplate();

  // variables: at least {"messages": [...]}; "tools" and any other template variable may stand beside it.
  // bos_token, eos_token, ... of tokenizer_config are set.
  Result<std::string> render(const Json& variables, bool add_generation_prompt) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fettle
