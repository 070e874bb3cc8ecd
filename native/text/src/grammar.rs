//! C entry of the grammars for constrained output.

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use llguidance::ParserFactory;

use crate::border::{guard, text, Bytes, Failure, Outcome};

fn check(kind: &str, grammar: &str) -> Outcome {
    if !matches!(kind, "json_schema" | "regex" | "lark") {
        return Err(Failure::unsupported(format!(
            "found grammar kind \"{kind}\", expected \"json_schema\", \"regex\" or \"lark\""
        )));
    }
    let wrong = |error| Failure::bad_input(format!("{kind} grammar: {error}"));
    let compiled = TopLevelGrammar::from_tagged_str(kind, grammar).map_err(wrong)?;
    // A grammar is over bytes: a vocabulary of the 256 bytes suffices to compile it.
    let mut factory = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env()).map_err(wrong)?;
    factory.quiet().limits_mut().verbose_errors = false;
    factory.create_parser(compiled).map_err(wrong)?;
    Ok(())
}

/// # Safety
/// See the header.
#[no_mangle]
pub unsafe extern "C" fn fettle_grammar_check(
    kind: *const u8,
    kind_size: usize,
    grammar: *const u8,
    grammar_size: usize,
    error: *mut Bytes,
) -> i32 {
    guard(error, || check(text(kind, kind_size, "the kind")?, text(grammar, grammar_size, "the grammar")?))
}
