//! C entries of the tokenizer.

use std::str::FromStr;

use tokenizers::DecoderWrapper;

use crate::border::{guard, slice, text, Bytes, Failure, Ids, Owned};

/// Larger ids than any vocabulary has: a file that claims one is damaged, and arrays are sized by the
/// vocabulary.
const MAX_ID: u32 = 1 << 24;

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: u32,
    byte_level: bool,
}

#[repr(C)]
pub struct Info {
    vocab_size: u32,
    byte_level: u32,
}

impl Tokenizer {
    fn new(json: &str) -> Result<Self, Failure> {
        let mut inner = tokenizers::Tokenizer::from_str(json)
            .map_err(|error| Failure::bad_input(format!("tokenizer.json: {error}")))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| Failure::bad_input(format!("tokenizer.json: {error}")))?;
        let largest = inner.get_vocab(true).into_values().max();
        if let Some(id) = largest.filter(|id| *id > MAX_ID) {
            return Err(Failure::bad_input(format!(
                "tokenizer.json: found token id {id}, expected ids up to {MAX_ID}"
            )));
        }
        let byte_level = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        Ok(Tokenizer { vocab_size: largest.map_or(0, |id| id + 1), byte_level, inner })
    }

    fn token(&self, id: u32) -> Result<String, Failure> {
        self.inner.id_to_token(id).ok_or_else(Failure::not_found)
    }
}

/// GPT-2's printable stand-ins for bytes: the printable Latin-1 characters stand for themselves, the other 68
/// bytes in order for U+0100 and on.
fn byte_of(stand_in: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(stand_in) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(|byte| printable(*byte)),
        code => (0..=255).filter(|byte| !printable(*byte)).nth((code - 0x100) as usize),
    }
}

/// A token with any character that stands for no byte is text as it is; so does the library's decoder.
fn bytes_of(token: String) -> Vec<u8> {
    token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.into_bytes())
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_tokenizer_new(
    json: *const u8,
    size: usize,
    out: *mut *mut Tokenizer,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let tokenizer = Tokenizer::new(text(json, size, "tokenizer.json")?)?;
        out.write(Box::into_raw(Box::new(tokenizer)));
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        guard(std::ptr::null_mut(), || {
            drop(Box::from_raw(tokenizer));
            Ok(())
        });
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_tokenizer_describe(tokenizer: *const Tokenizer, out: *mut Info) {
    let tokenizer = &*tokenizer;
    out.write(Info { vocab_size: tokenizer.vocab_size, byte_level: tokenizer.byte_level.into() });
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_tokenizer_encode(
    tokenizer: *const Tokenizer,
    data: *const u8,
    size: usize,
    add_special: i32,
    out: *mut Ids,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let encoding = (*tokenizer)
            .inner
            .encode_fast(text(data, size, "the text")?, add_special != 0)
            .map_err(|error| Failure::bad_input(format!("cannot tokenize the text: {error}")))?;
        out.write(Owned::give(encoding.get_ids().to_vec()));
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const u32,
    count: usize,
    skip_special: i32,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let decoded = (*tokenizer)
            .inner
            .decode(slice(ids, count), skip_special != 0)
            .map_err(|error| Failure::bad_input(format!("cannot decode the tokens: {error}")))?;
        out.write(Owned::give(decoded.into_bytes()));
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_tokenizer_token_id(
    tokenizer: *const Tokenizer,
    token: *const u8,
    size: usize,
    out: *mut u32,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let token = text(token, size, "the token")?;
        out.write((*tokenizer).inner.token_to_id(token).ok_or_else(Failure::not_found)?);
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_tokenizer_token_text(
    tokenizer: *const Tokenizer,
    id: u32,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        out.write(Owned::give((*tokenizer).token(id)?.into_bytes()));
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_tokenizer_token_bytes(
    tokenizer: *const Tokenizer,
    id: u32,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let tokenizer = &*tokenizer;
        if !tokenizer.byte_level {
            return Err(Failure::unsupported(
                "the tokenizer's decoder is not ByteLevel: a token alone has no bytes",
            ));
        }
        out.write(Owned::give(bytes_of(tokenizer.token(id)?)));
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_tokenizer_is_special(tokenizer: *const Tokenizer, id: u32) -> i32 {
    let inner = &(*tokenizer).inner;
    let mut special = 0;
    guard(std::ptr::null_mut(), || {
        let vocabulary = inner.get_added_vocabulary();
        special = inner.id_to_token(id).is_some_and(|token| vocabulary.is_special_token(&token)).into();
        Ok(())
    });
    special
}
