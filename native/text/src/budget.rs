//! Memory and time that one rendering may take. The template engine counts steps, but one step may double a
//! string, and what it allocates cannot be refused: Rust ends the process when memory runs out. So a rendering
//! has its own thread, and a thread that goes over its budget is stopped for good where it stands, inside the
//! allocator; what it holds by then, at most the budget, stays taken.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::border::{Failure, RESOURCE};

pub const MEMORY_BYTES: usize = 512 << 20;
const SECONDS: u64 = 60;
const STACK_BYTES: usize = 1 << 30; // reserved, not used: no template of the permitted size and steps exhausts it

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Finished,
    OutOfMemory,
}

struct Watch {
    ending: Mutex<Option<Ending>>,
    changed: Condvar,
    expired: AtomicBool,
}

impl Watch {
    fn end(&self, ending: Ending) {
        *self.ending.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(ending);
        self.changed.notify_all();
    }
}

thread_local! {
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Of a thread with a budget; valid as long as the thread lives.
    static WATCH: Cell<*const Watch> = const { Cell::new(std::ptr::null()) };
}

struct Budgeted;

#[global_allocator]
static ALLOCATOR: Budgeted = Budgeted;

fn take(bytes: usize) {
    let watch = WATCH.get();
    if watch.is_null() {
        return;
    }
    let watch = unsafe { &*watch };
    match LEFT.get().checked_sub(bytes) {
        Some(left) if !watch.expired.load(Ordering::Relaxed) => LEFT.set(left),
        _ => {
            watch.end(Ending::OutOfMemory);
            loop {
                unsafe { libc::pause() };
            }
        }
    }
}

fn give_back(bytes: usize) {
    LEFT.set(LEFT.get().saturating_add(bytes));
}

unsafe impl GlobalAlloc for Budgeted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        System.alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        System.alloc_zeroed(layout)
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        System.dealloc(memory, layout);
        give_back(layout.size());
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size.saturating_sub(layout.size()));
        let moved = System.realloc(memory, layout, size);
        give_back(layout.size().saturating_sub(size));
        moved
    }
}

/// Runs `body` on a thread of its own. The error is of status RESOURCE if it goes over its budget.
pub fn within_budget<T: Send + 'static>(
    body: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let watch = Arc::new(Watch {
        ending: Mutex::new(None),
        changed: Condvar::new(),
        expired: AtomicBool::new(false),
    });
    let (here, there) = (watch, Arc::new(Mutex::new(None)));
    let (watch, result) = (here.clone(), there.clone());
    let run = move || {
        LEFT.set(MEMORY_BYTES);
        WATCH.set(Arc::as_ptr(&watch));
        let outcome = catch_unwind(AssertUnwindSafe(body));
        WATCH.set(std::ptr::null());
        if let Ok(mut result) = result.lock() {
            *result = Some(outcome);
        }
        watch.end(Ending::Finished);
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).map_err(|error| Failure {
        status: RESOURCE,
        message: format!("cannot start a thread for the chat template: {error}"),
    })?;
    let ending = here.ending.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (ending, _) = here
        .changed
        .wait_timeout_while(ending, Duration::from_secs(SECONDS), |ending| ending.is_none())
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    match *ending {
        Some(Ending::Finished) => {}
        Some(Ending::OutOfMemory) => return Err(over(format!("{} MiB of memory", MEMORY_BYTES >> 20))),
        None => {
            here.expired.store(true, Ordering::Relaxed);
            return Err(over(format!("{SECONDS} s")));
        }
    }
    drop(ending);
    let _ = thread.join();
    let outcome = there.lock().ok().and_then(|mut result| result.take());
    match outcome {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => resume_unwind(panic),
        None => Err(Failure { status: RESOURCE, message: "the chat template's thread ended".into() }),
    }
}

fn over(what: String) -> Failure {
    Failure { status: RESOURCE, message: format!("chat template: it takes more than {what}; it is refused") }
}
