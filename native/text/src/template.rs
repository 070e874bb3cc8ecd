//! Chat templates as the transformers library renders them: jinja2 with trim_blocks, lstrip_blocks and loop
//! controls, no escaping, Python's methods, and the globals raise_exception and strftime_now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

use crate::border::{guard, text, Bytes, Failure, Owned, RESOURCE};
use crate::budget::within_budget;
use crate::generation_tags;
use crate::python;
use crate::python_methods;

const NAME: &str = "chat_template";
/// Steps of the template machine one rendering may take: far more than long conversations need, and ends
/// hostile loops.
const FUEL: u64 = 10_000_000;
/// The longest templates in circulation have some 30 kB.
const MAX_SOURCE: usize = 256 << 10;

pub struct Template {
    environment: Environment<'static>,
}

impl Template {
    fn new(source: &str) -> Result<Self, Failure> {
        if source.len() > MAX_SOURCE {
            let found = source.len();
            return Err(Failure::bad_input(format!(
                "chat template: found {found} bytes, expected up to {MAX_SOURCE}"
            )));
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(|out, state, value| match value.kind() {
            ValueKind::Map | ValueKind::Seq | ValueKind::Iterable | ValueKind::Number => {
                Ok(out.write_str(&python::to_str(value))?)
            }
            _ => minijinja::escape_formatter(out, state, value),
        });
        minijinja_contrib::add_to_environment(&mut environment);
        environment.set_unknown_method_callback(python_methods::call);
        environment.add_filter("tojson", to_json);
        environment.add_filter("string", |value: &Value| python::to_str(value));
        environment.add_filter("int", to_int);
        environment.add_filter("float", to_float);
        environment.add_test("sequence", is_sequence);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, generation_tags::rewrite(source).into_owned())
            .map_err(|error| Failure::bad_input(describe(&error)))?;
        Ok(Template { environment })
    }

    fn render(&self, variables: &str) -> Result<String, Failure> {
        let variables: serde_json::Map<String, serde_json::Value> = serde_json::from_str(variables)
            .map_err(|error| Failure::bad_input(format!("the template's variables: {error}")))?;
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Value::from_serialize(&variables)))
            .map_err(|error| Failure::bad_input(describe(&error)))
    }
}

/// What C holds. A template that went over its budget once would do it again.
pub struct Handle {
    template: Arc<Template>,
    refused: AtomicBool,
}

fn describe(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("chat template: it ran out of fuel: it takes more than {FUEL} steps");
    }
    let line = error.line().map_or(String::new(), |line| format!(" line {line}"));
    let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
    let source = std::error::Error::source(error).map_or(String::new(), |source| format!(" ({source})"));
    format!("chat template{line}: {}{detail}{source}", error.kind())
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("the template refuses these messages: {message}")))
}

/// Python counts a string and a mapping as sequences too; templates rely on it.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
}

/// jinja2's int and float never fail: what is no number becomes the default.
fn to_int(value: &Value, default: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let default =
        default.map_or_else(|| options.get::<Option<Value>>("default"), |default| Ok(Some(default)))?;
    let base = options.get::<Option<u32>>("base")?.filter(|base| (2..=36).contains(base)).unwrap_or(10);
    options.assert_all_used()?;
    let parsed = match value.as_str().map(str::trim) {
        Some(text) => {
            let digits = if base == 16 { text.trim_start_matches("0x") } else { text };
            i64::from_str_radix(digits, base)
                .ok()
                .or_else(|| text.parse::<f64>().ok().map(|number| number as i64))
        }
        None if value.is_integer() => return Ok(value.clone()),
        None => f64::try_from(value.clone()).ok().map(|number| number as i64),
    };
    Ok(parsed.map(Value::from).or(default).unwrap_or_else(|| Value::from(0)))
}

fn to_float(value: &Value, default: Option<f64>) -> f64 {
    let parsed = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => f64::try_from(value.clone()).ok(),
    };
    parsed.or(default).unwrap_or(0.0)
}

fn to_json(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    // The one positional argument is jinja2's indent; transformers' own filter has ensure_ascii there, and
    // templates name what they mean.
    let indent = indent.map_or_else(|| options.get::<Option<Value>>("indent"), |indent| Ok(Some(indent)))?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let format = python::JsonFormat {
        indent: python::indent_of(indent)?,
        separators: separators.filter(|pair| pair.len() == 2).map(|pair| (pair[0].clone(), pair[1].clone())),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    Ok(Value::from(python::to_json(value, &format)?))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let wrong = || {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now cannot use the format \"{format}\""))
    };
    let c_format = std::ffi::CString::new(format).map_err(|_| wrong())?;
    let mut buffer = [0u8; 512];
    let written = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return Err(wrong());
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), c_format.as_ptr(), &parts)
    };
    if written == 0 && !format.is_empty() {
        return Err(wrong());
    }
    Ok(String::from_utf8_lossy(&buffer[..written]).into_owned())
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_template_new(
    source: *const u8,
    size: usize,
    out: *mut *mut Handle,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let source = text(source, size, "the chat template")?.to_owned();
        let template = Arc::new(within_budget(move || Template::new(&source))?);
        out.write(Box::into_raw(Box::new(Handle { template, refused: AtomicBool::new(false) })));
        Ok(())
    })
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_template_free(template: *mut Handle) {
    if !template.is_null() {
        guard(std::ptr::null_mut(), || {
            drop(Box::from_raw(template));
            Ok(())
        });
    }
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_template_render(
    template: *const Handle,
    variables: *const u8,
    size: usize,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let handle = &*template;
        let (template, variables) =
            (handle.template.clone(), text(variables, size, "the template's variables")?.to_owned());
        if handle.refused.load(Ordering::Relaxed) {
            return Err(Failure {
                status: RESOURCE,
                message: "chat template: an earlier rendering took too much memory or time; it is refused".into(),
            });
        }
        let rendered = within_budget(move || template.render(&variables));
        if matches!(&rendered, Err(failure) if failure.status == RESOURCE) {
            handle.refused.store(true, Ordering::Relaxed);
        }
        let rendered = rendered?;
        out.write(Owned::give(rendered.into_bytes()));
        Ok(())
    })
}
