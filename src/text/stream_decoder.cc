#include <algorithm>

#include "text/text.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace fettle {

struct StreamDecoder::Impl {
  std::shared_ptr<const Tokenizer> tokenizer;
  bool skip_special;
  std::vector<int32_t> kept;  // special tokens that are not skipped

  // Byte-level tokenizers: a token is its bytes.
  std::string bytes;  // the start of a character

  // All others: the text of a token depends on its neighbours, so the newest tokens are decoded together with
  // those before.
  std::vector<int32_t> window;  // tokens already written, for context, then those held back
  std::string written;          // the text of the former

  std::string push_bytes(int32_t id);
  std::string push_window(int32_t id, bool last);
};

std::string StreamDecoder::Impl::push_bytes(int32_t id) {
  if (skip_special && tokenizer->is_special(id) && std::find(kept.begin(), kept.end(), id) == kept.end())
    return {};
  fettle_text_bytes token{}, error{};
  const int32_t status =
      fettle_tokenizer_token_bytes(tokenizer->impl_->handle.get(), static_cast<uint32_t>(id), &token, &error);
  fettle_text_bytes_free(error);
  if (status != FETTLE_TEXT_OK) return {};  // ids outside the vocabulary have no text, as in decode()
  bytes += native::take(token);
  return take_characters(bytes);
}

std::string StreamDecoder::Impl::push_window(int32_t id, bool last) {
  if (!last) window.push_back(id);
  auto decoded = tokenizer->decode(window, skip_special);
  if (!decoded) return {};
  std::string& text = *decoded;
  // A byte token changes what a run of byte tokens means until the run ends.
  const bool open_bytes = !last && tokenizer->token_text(id).value_or("").starts_with("<0x");
  if (!last && (open_bytes || text.ends_with(kReplacement))) return {};
  if (text.size() <= written.size() || !text.starts_with(written)) return {};
  std::string piece = text.substr(written.size());
  // Only the newest token stays as context; its own text alone is what the next decoding starts with.
  if (!last) {
    window.assign(1, id);
    auto context = tokenizer->decode(window, skip_special);
    written = context ? std::move(*context) : std::string();
  }
  return piece;
}

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special,
                             const std::vector<std::string>& kept)
    : impl_(std::make_unique<Impl>(Impl{std::move(tokenizer), skip_special, {}, {}, {}, {}})) {
  for (const std::string& token : kept) {
    if (const auto id = impl_->tokenizer->token_id(token)) impl_->kept.push_back(*id);
  }
}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(int32_t id) {
  if (id < 0) return {};
  return impl_->tokenizer->impl_->info.byte_level ? impl_->push_bytes(id) : impl_->push_window(id, false);
}

std::string StreamDecoder::flush() {
  if (impl_->tokenizer->impl_->info.byte_level) {
    const bool cut = !impl_->bytes.empty();
    impl_->bytes.clear();
    return cut ? std::string(kReplacement) : std::string();
  }
  std::string rest = impl_->push_window(-1, true);
  impl_->window.clear();
  impl_->written.clear();
  return rest;
}

}  // namespace fettle
