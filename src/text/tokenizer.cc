#include <algorithm>

#include "base/log.h"
#include "text/text.h"
#include "text/text_config.h"
#include "text/tokenizer_impl.h"

namespace fettle {
namespace {

Result<std::vector<int32_t>> encode_raw(const native::TokenizerHandle& handle, std::string_view text,
                                        bool add_special) {
  fettle_text_ids ids{};
  fettle_text_bytes error{};
  const int32_t status =
      fettle_tokenizer_encode(handle.get(), native::data(text), text.size(), add_special, &ids, &error);
  if (status != FETTLE_TEXT_OK) return native::to_error(status, error);
  return native::take(ids);
}

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> Tokenizer::load(const TextFiles& files) {
  const auto file = files.find("tokenizer.json");
  if (file == files.end())
    return bad_input("the model has no tokenizer.json: without it text cannot be tokenized");
  TRY(const TextConfig config, read_text_config(files));

  auto impl = std::make_unique<Impl>();
  fettle_tokenizer* handle = nullptr;
  fettle_text_bytes error{};
  const int32_t status =
      fettle_tokenizer_new(native::data(file->second), file->second.size(), &handle, &error);
  if (status != FETTLE_TEXT_OK) return native::to_error(status, error);
  impl->handle.reset(handle);
  fettle_tokenizer_describe(handle, &impl->info);

  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer(std::move(impl)));
  Impl& self = *tokenizer->impl_;
  const auto find = [&](const char* name) -> std::optional<int32_t> {
    const auto text = config.special_token(name);
    const auto id = text ? tokenizer->token_id(*text) : std::nullopt;
    if (text && !id)
      log_warning("tokenizer_config.json: {} \"{}\" is no token of tokenizer.json; ignored", name, *text);
    return id;
  };
  self.bos = find("bos_token");
  self.eos = find("eos_token");

  TRY(const std::vector<int32_t> added, encode_raw(self.handle, "", true));
  self.prepend_bos = config.add_bos && self.bos && !contains(added, *self.bos);
  self.append_eos = config.add_eos && self.eos && !contains(added, *self.eos);

  if (self.eos) self.end_tokens.push_back(*self.eos);
  for (const int32_t id : config.end_ids) {
    if (!contains(self.end_tokens, id)) self.end_tokens.push_back(id);
  }
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, bool add_special) const {
  TRY(std::vector<int32_t> ids, encode_raw(impl_->handle, text, add_special));
  if (add_special && impl_->prepend_bos) ids.insert(ids.begin(), *impl_->bos);
  if (add_special && impl_->append_eos) ids.push_back(*impl_->eos);
  return ids;
}

Result<std::string> Tokenizer::decode(const std::vector<int32_t>& ids, bool skip_special) const {
  const auto negative = std::find_if(ids.begin(), ids.end(), [](int32_t id) { return id < 0; });
  if (negative != ids.end()) return bad_input("cannot decode token id {}, expected 0 or more", *negative);
  fettle_text_bytes text{}, error{};
  const int32_t status =
      fettle_tokenizer_decode(impl_->handle.get(), reinterpret_cast<const uint32_t*>(ids.data()), ids.size(),
                              skip_special, &text, &error);
  if (status != FETTLE_TEXT_OK) return native::to_error(status, error);
  return native::take(text);
}

int64_t Tokenizer::vocab_size() const { return impl_->info.vocab_size; }

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  uint32_t id = 0;
  fettle_text_bytes error{};
  const int32_t status =
      fettle_tokenizer_token_id(impl_->handle.get(), native::data(token), token.size(), &id, &error);
  fettle_text_bytes_free(error);
  return status == FETTLE_TEXT_OK ? std::optional(static_cast<int32_t>(id)) : std::nullopt;
}

std::optional<std::string> Tokenizer::token_text(int32_t id) const {
  if (id < 0) return std::nullopt;
  fettle_text_bytes text{}, error{};
  const int32_t status =
      fettle_tokenizer_token_text(impl_->handle.get(), static_cast<uint32_t>(id), &text, &error);
  fettle_text_bytes_free(error);
  return status == FETTLE_TEXT_OK ? std::optional(native::take(text)) : std::nullopt;
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && fettle_tokenizer_is_special(impl_->handle.get(), static_cast<uint32_t>(id)) != 0;
}

std::optional<int32_t> Tokenizer::bos() const { return impl_->bos; }
std::vector<int32_t> Tokenizer::end_tokens() const { return impl_->end_tokens; }

}  // namespace fettle
