//! Methods of Python's str and list that minijinja-contrib lacks, counts in bytes, or gets wrong for empty
//! strings; the rest is delegated to it.

use minijinja::value::{from_args, Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

const MAX_WIDTH: usize = 10_000;

pub fn call(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => match string_method(text, method, args)? {
            Some(result) => Ok(result),
            None => unknown_method_callback(state, value, method, args),
        },
        (ValueKind::Seq, _) if method == "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let place = value.try_iter()?.position(|item| item == *wanted);
            place.map(Value::from).ok_or_else(|| wrong(format!("{wanted} is not in the list")))
        }
        _ => unknown_method_callback(state, value, method, args),
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// None: not one of ours.
fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "isalnum" | "isalpha" | "isdigit" | "isnumeric" | "isdecimal" | "isspace" if text.is_empty() => {
            Value::from(false)
        }
        "isdecimal" => Value::from(text.chars().all(|c| c.is_ascii_digit())),
        "islower" => {
            Value::from(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))
        }
        "isupper" => {
            Value::from(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))
        }
        "casefold" => Value::from(text.to_lowercase()),
        "find" | "rfind" | "index" | "rindex" => find(text, method, args)?,
        "count" => {
            let (part,): (&str,) = from_args(args)?;
            Value::from(if part.is_empty() { text.chars().count() + 1 } else { text.matches(part).count() })
        }
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "partition" => {
            let (mark,) = from_args(args)?;
            parts(mark, text.split_once(mark).map(|(a, b)| [a, mark, b]).unwrap_or([text, "", ""]))?
        }
        "rpartition" => {
            let (mark,) = from_args(args)?;
            parts(mark, text.rsplit_once(mark).map(|(a, b)| [a, mark, b]).unwrap_or(["", "", text]))?
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "ljust" | "rjust" | "zfill" => pad(text, method, args)?,
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn parts(mark: &str, pieces: [&str; 3]) -> Result<Value, Error> {
    if mark.is_empty() {
        return Err(wrong("empty separator"));
    }
    Ok(Value::from(pieces.map(Value::from).to_vec()))
}

/// Places count characters, as slices do.
fn find(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (part,): (&str,) = from_args(args)?;
    let place = if method.starts_with('r') { text.rfind(part) } else { text.find(part) };
    match place {
        Some(byte) => Ok(Value::from(text[..byte].chars().count())),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(wrong(format!("substring \"{part}\" not found"))),
    }
}

fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (sep, maxsplit, options): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let sep = sep.map_or_else(|| options.get::<Option<Value>>("sep"), |sep| Ok(Some(sep)))?;
    let sep = sep.filter(|sep| !sep.is_none());
    let maxsplit =
        maxsplit.map_or_else(|| options.get::<Option<i64>>("maxsplit"), |count| Ok(Some(count)))?;
    options.assert_all_used()?;
    let most = maxsplit
        .and_then(|count| usize::try_from(count).ok())
        .map_or(usize::MAX, |count| count.saturating_add(1));
    let pieces: Vec<&str> = match &sep {
        Some(sep) => {
            let sep = sep
                .as_str()
                .ok_or_else(|| wrong(format!("split: found separator {sep}, expected a string")))?;
            if sep.is_empty() {
                return Err(wrong("empty separator"));
            } else if from_right {
                let mut pieces: Vec<&str> = text.rsplitn(most, sep).collect();
                pieces.reverse();
                pieces
            } else {
                text.splitn(most, sep).collect()
            }
        }
        None => split_whitespace(text, most, from_right),
    };
    Ok(pieces.into_iter().map(Value::from).collect())
}

/// With a limit, the last piece keeps the whitespace at its outer end, as Python's does.
fn split_whitespace(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let trim = |text| if from_right { str::trim_end(text) } else { str::trim_start(text) };
    let mut pieces = Vec::new();
    let mut rest = trim(text);
    while !rest.is_empty() {
        let gap = if from_right { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
        let Some(gap) = gap.filter(|_| pieces.len() + 1 < most) else {
            pieces.push(rest);
            break;
        };
        let (before, after) = rest.split_at(gap);
        let (piece, remaining) = if from_right { (after.trim_start(), before) } else { (before, after) };
        pieces.push(piece);
        rest = trim(remaining);
    }
    if from_right {
        pieces.reverse();
    }
    pieces
}

fn pad(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    if width > MAX_WIDTH {
        return Err(wrong(format!("{method}: found width {width}, expected up to {MAX_WIDTH}")));
    }
    let missing = width.saturating_sub(text.chars().count());
    let padding = |fill: char| fill.to_string().repeat(missing);
    let fill = fill.unwrap_or(' ');
    Ok(Value::from(match method {
        "ljust" => format!("{text}{}", padding(fill)),
        "rjust" => format!("{}{text}", padding(fill)),
        _ => {
            let digits = text.trim_start_matches(['+', '-']);
            let sign = &text[..text.len() - digits.len()];
            format!("{sign}{}{digits}", padding('0'))
        }
    }))
}
