// The C border of the Rust text library: tokenizers, chat templates, grammars. Included by src/text (and its
// test) only. Text goes in as (pointer, length), UTF-8, not zero-terminated; what comes out is owned by the
// caller and freed by the free function of its kind. Every call that can fail returns a fettle_text_status
// and, unless it is OK or NOT_FOUND, a message in *error. A panic never crosses this border: it becomes
// FETTLE_TEXT_PANIC. Handles are immutable: any number of threads may use one at the same time; free one
// once, after its last use.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  FETTLE_TEXT_OK = 0,
  FETTLE_TEXT_NOT_FOUND = 1,  // no such token
  FETTLE_TEXT_BAD_INPUT = 3,
  FETTLE_TEXT_UNSUPPORTED = 4,
  FETTLE_TEXT_RESOURCE = 5,
  FETTLE_TEXT_PANIC = 70,
} fettle_text_status;

typedef struct {
  uint8_t* data;
  size_t size;
} fettle_text_bytes;

typedef struct {
  uint32_t* data;
  size_t size;
} fettle_text_ids;

void fettle_text_bytes_free(fettle_text_bytes bytes);
void fettle_text_ids_free(fettle_text_ids ids);

// A tokenizer from the text of a tokenizer.json. Truncation and padding of the file are ignored.
typedef struct fettle_tokenizer fettle_tokenizer;
typedef struct {
  uint32_t vocab_size;  // 1 + the largest id
  uint32_t byte_level;  // 1: the text of a list of ids is its tokens' bytes, one after the other
} fettle_tokenizer_info;

int32_t fettle_tokenizer_new(const uint8_t* json, size_t size, fettle_tokenizer** out,
                             fettle_text_bytes* error);
void fettle_tokenizer_free(fettle_tokenizer* tokenizer);
void fettle_tokenizer_describe(const fettle_tokenizer* tokenizer, fettle_tokenizer_info* out);
int32_t fettle_tokenizer_encode(const fettle_tokenizer* tokenizer, const uint8_t* text, size_t size,
                                int32_t add_special, fettle_text_ids* out, fettle_text_bytes* error);
int32_t fettle_tokenizer_decode(const fettle_tokenizer* tokenizer, const uint32_t* ids, size_t count,
                                int32_t skip_special, fettle_text_bytes* out, fettle_text_bytes* error);
int32_t fettle_tokenizer_token_id(const fettle_tokenizer* tokenizer, const uint8_t* token, size_t size,
                                  uint32_t* out, fettle_text_bytes* error);
// The vocabulary's spelling of an id.
int32_t fettle_tokenizer_token_text(const fettle_tokenizer* tokenizer, uint32_t id, fettle_text_bytes* out,
                                    fettle_text_bytes* error);
// What an id adds to the decoded bytes; UNSUPPORTED unless the tokenizer is byte_level.
int32_t fettle_tokenizer_token_bytes(const fettle_tokenizer* tokenizer, uint32_t id, fettle_text_bytes* out,
                                     fettle_text_bytes* error);
int32_t fettle_tokenizer_is_special(const fettle_tokenizer* tokenizer, uint32_t id);  // 1 or 0

// A Jinja chat template, rendered as the transformers library does. `variables` is the text of a JSON object.
typedef struct fettle_template fettle_template;
int32_t fettle_template_new(const uint8_t* source, size_t size, fettle_template** out,
                            fettle_text_bytes* error);
void fettle_template_free(fettle_template* chat_template);
int32_t fettle_template_render(const fettle_template* chat_template, const uint8_t* variables, size_t size,
                               fettle_text_bytes* out, fettle_text_bytes* error);

// Does a grammar for constrained output compile? kind: "json_schema", "regex" or "lark".
int32_t fettle_grammar_check(const uint8_t* kind, size_t kind_size, const uint8_t* grammar,
                             size_t grammar_size, fettle_text_bytes* error);

#ifdef __cplusplus
}
#endif
