//! Values written as Python writes them: str(), repr() and json.dumps().

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

pub struct JsonFormat {
    pub indent: Option<String>,
    pub separators: Option<(String, String)>,
    pub sort_keys: bool,
    pub ensure_ascii: bool,
}

pub fn to_str(value: &Value) -> String {
    match value.kind() {
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable | ValueKind::Number => {
            let mut out = String::new();
            write_repr(&mut out, value);
            out
        }
        _ => value.to_string(),
    }
}

fn write_repr(out: &mut String, value: &Value) {
    match value.kind() {
        ValueKind::String => write_string_repr(out, value.as_str().unwrap_or_default()),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::Map => {
            out.push('{');
            for (index, (key, item)) in pairs(value).iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(out, key);
                out.push_str(": ");
                write_repr(out, item);
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(out, &item);
            }
            out.push(']');
        }
        _ => out.push_str(&value.to_string()),
    }
}

fn pairs(map: &Value) -> Vec<(Value, Value)> {
    map.as_object().and_then(|object| object.try_iter_pairs()).into_iter().flatten().collect()
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float_repr)
}

/// The shortest digits that read back, with an exponent below 1e-4 and from 1e16, as Python's repr.
pub fn float_repr(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan".into()
        } else if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..=15 => {
            let plain = value.to_string();
            if plain.contains('.') {
                plain
            } else {
                plain + ".0"
            }
        }
        exponent => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

fn is_unprintable(c: char) -> bool {
    let invisible = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2064}' | '\u{feff}');
    invisible || c.is_control() || (c.is_whitespace() && c != ' ')
}

fn write_string_repr(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if is_unprintable(c) => {
                let _ = match u32::from(c) {
                    code @ 0..=0xFF => write!(out, "\\x{code:02x}"),
                    code @ 0x100..=0xFFFF => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// json.dumps' `indent`: none, a number of spaces, or the text itself.
pub fn indent_of(indent: Option<Value>) -> Result<Option<String>, Error> {
    const MAX_INDENT: usize = 64;
    let Some(indent) = indent.filter(|indent| !indent.is_none() && !indent.is_undefined()) else {
        return Ok(None);
    };
    if let Some(text) = indent.as_str() {
        return Ok(Some(text.to_string()));
    }
    match usize::try_from(indent.clone()) {
        Ok(width) if width <= MAX_INDENT => Ok(Some(" ".repeat(width))),
        _ => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("tojson: found indent {indent}, expected up to {MAX_INDENT}"),
        )),
    }
}

pub fn to_json(value: &Value, format: &JsonFormat) -> Result<String, Error> {
    let mut out = String::new();
    write_json(&mut out, value, format, 1)?;
    Ok(out)
}

fn write_json(out: &mut String, value: &Value, format: &JsonFormat, depth: usize) -> Result<(), Error> {
    let refuse = || {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("tojson: a value of type {} has no JSON", value.kind()),
        )
    };
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => write_json_string(out, value.as_str().unwrap_or_default(), format.ensure_ascii),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_json_items(out, ('[', ']'), items, format, depth, |out, item| {
                write_json(out, item, format, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut items = pairs(value);
            if format.sort_keys {
                items.sort_by(|a, b| a.0.cmp(&b.0));
            }
            let colon = format.separators.as_ref().map_or(": ", |pair| pair.1.as_str());
            write_json_items(out, ('{', '}'), items, format, depth, |out, (key, item)| {
                write_json_string(out, &key_text(key), format.ensure_ascii);
                out.push_str(colon);
                write_json(out, item, format, depth + 1)
            })?;
        }
        _ => return Err(refuse()),
    }
    Ok(())
}

fn key_text(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        _ => to_str(key),
    }
}

fn write_json_items<T>(
    out: &mut String,
    brackets: (char, char),
    items: Vec<T>,
    format: &JsonFormat,
    depth: usize,
    mut write_item: impl FnMut(&mut String, &T) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |out: &mut String, depth: usize| {
        if let Some(indent) = &format.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    };
    let default_comma = if format.indent.is_some() { "," } else { ", " };
    let comma = format.separators.as_ref().map_or(default_comma, |pair| pair.0.as_str());
    out.push(brackets.0);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(comma);
        }
        new_line(out, depth);
        write_item(out, item)?;
    }
    if !items.is_empty() {
        new_line(out, depth - 1);
    }
    out.push(brackets.1);
    Ok(())
}

fn write_json_string(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (ensure_ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
