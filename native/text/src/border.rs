//! What every C entry shares: views of the caller's memory, owned results, and the guard that turns errors
//! and panics into a status and a message.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

pub const OK: i32 = 0;
pub const NOT_FOUND: i32 = 1;
pub const BAD_INPUT: i32 = 3;
pub const UNSUPPORTED: i32 = 4;
pub const RESOURCE: i32 = 5;
pub const PANIC: i32 = 70;

pub struct Failure {
    pub status: i32,
    pub message: String,
}

impl Failure {
    pub fn bad_input(message: impl Into<String>) -> Self {
        Failure { status: BAD_INPUT, message: message.into() }
    }
    pub fn unsupported(message: impl Into<String>) -> Self {
        Failure { status: UNSUPPORTED, message: message.into() }
    }
    pub fn not_found() -> Self {
        Failure { status: NOT_FOUND, message: String::new() }
    }
}

pub type Outcome = Result<(), Failure>;

/// A slice of `T` that the caller owns; an empty one has no memory.
#[repr(C)]
pub struct Owned<T> {
    data: *mut T,
    size: usize,
}

impl<T> Owned<T> {
    pub fn give(items: Vec<T>) -> Self {
        if items.is_empty() {
            return Owned { data: std::ptr::null_mut(), size: 0 };
        }
        let items = Box::leak(items.into_boxed_slice());
        Owned { data: items.as_mut_ptr(), size: items.len() }
    }

    unsafe fn free(self) {
        if !self.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.data, self.size)));
        }
    }
}

pub type Bytes = Owned<u8>;
pub type Ids = Owned<u32>;

/// # Safety
/// `bytes` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn fettle_text_bytes_free(bytes: Bytes) {
    bytes.free();
}

/// # Safety
/// `ids` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn fettle_text_ids_free(ids: Ids) {
    ids.free();
}

/// # Safety
/// `data` is valid for `size` items for as long as the result is used; it may be null if `size` is 0.
pub unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

/// # Safety
/// As `slice`.
pub unsafe fn text<'a>(data: *const u8, size: usize, what: &str) -> Result<&'a str, Failure> {
    std::str::from_utf8(slice(data, size)).map_err(|error| {
        Failure::bad_input(format!(
            "{what} is not UTF-8: the byte at offset {} is wrong",
            error.valid_up_to()
        ))
    })
}

/// Runs one C entry. The default panic hook would print to standard error what is returned as an error
/// anyway.
pub fn guard(error: *mut Bytes, body: impl FnOnce() -> Outcome) -> i32 {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return OK,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure { status: PANIC, message: panic_message(payload.as_ref()) },
    };
    if !error.is_null() && failure.status != NOT_FOUND {
        unsafe { error.write(Owned::give(failure.message.into_bytes())) };
    }
    failure.status
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(|s| s.as_str()));
    format!("the text library panicked: {}", text.unwrap_or("no message"))
}
