//! `{% generation %}` marks the assistant's own tokens for training in some templates. For rendering it is a
//! plain block: its tags are rewritten to `{% if true %}` and `{% endif %}`, keeping lines and whitespace
//! control.

use std::borrow::Cow;

pub fn rewrite(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        out.push_str(before);
        rest = tag;
        let Some(close) = tag.find("%}") else { break };
        let inside = &tag[..close];
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let plain = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        out.push_str(&inside.replacen(word, plain, 1));
        rest = &tag[close..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}
