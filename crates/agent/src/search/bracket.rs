//! Translates bracket expressions of basic regular expressions into character classes
//! of the regex engine. Pure.
//!
//! Ranges go by code points, as in the C.UTF-8 locale. Multi-character collating
//! elements (between `[.` and `.]`) do not exist there.

use std::fmt::Write as _;

/// White space as in glibc, without the line feed.
pub const SPACE: &str = "\\t\\x0b\\x0c\\r\\x20\\x{1680}\\x{2000}-\\x{2006}\\x{2008}-\\x{200a}\
                         \\x{2028}\\x{2029}\\x{205f}\\x{3000}";
const BLANK: &str = "\\t\\x20\\x{1680}\\x{2000}-\\x{2006}\\x{2008}-\\x{200a}\\x{205f}\\x{3000}";
const CONTROL: &str = "\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\x{2028}\\x{2029}";

const UNMATCHED: &str = "Unmatched [, [^, [:, [., or [=";
const RANGE: &str = "Invalid range end";

/// Appends a literal character.
pub fn literal(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() {
        out.push(c);
    } else {
        let _ = write!(out, "\\x{{{:x}}}", u32::from(c));
    }
}

/// Translates the expression after its `[`. Returns the class and the rest of the text.
///
/// # Errors
/// The message that grep would print.
pub fn translate(text: &str) -> Result<(String, &str), &'static str> {
    let (negated, mut rest) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let begin = rest;
    let mut class = String::from(if negated { "[^\\n" } else { "[" });
    let mut only_characters = true;
    loop {
        if rest.starts_with(']') && rest.len() < begin.len() {
            break;
        }
        let (one, after) = Item::read(rest)?;
        rest = after;
        let range = rest.strip_prefix('-').filter(|end| !end.starts_with(']'));
        match (one, range) {
            (Item::Class(_), Some(_)) => return Err(RANGE),
            (Item::Class(name), None) => {
                only_characters = false;
                named(&mut class, name)?;
            }
            (Item::Character(c), None) => literal(&mut class, c),
            (Item::Character(low), Some(end)) => {
                let (Item::Character(high), after) = Item::read(end)? else {
                    return Err(RANGE);
                };
                let more = after
                    .strip_prefix('-')
                    .is_some_and(|end| !end.starts_with(']'));
                if low > high || more {
                    return Err(RANGE);
                }
                only_characters = false;
                literal(&mut class, low);
                class.push('-');
                literal(&mut class, high);
                rest = after;
            }
        }
    }
    let inside = &begin[..begin.len() - rest.len()];
    let meant = only_characters && inside.len() > 2;
    if meant && inside.starts_with(':') && inside.ends_with(':') {
        return Err("character class syntax is [[:space:]], not [:space:]");
    }
    class.push(']');
    Ok((class, &rest[1..]))
}

enum Item<'a> {
    Character(char),
    Class(&'a str),
}

impl<'a> Item<'a> {
    fn read(text: &'a str) -> Result<(Self, &'a str), &'static str> {
        let enclosed = |mark: &str| {
            let inside = text.strip_prefix('[')?.strip_prefix(mark)?;
            Some(inside.split_once(&format!("{mark}]")).ok_or(UNMATCHED))
        };
        if let Some(class) = enclosed(":") {
            return class.map(|(name, rest)| (Self::Class(name), rest));
        }
        if let Some(element) = enclosed(".").or_else(|| enclosed("=")) {
            let (element, rest) = element?;
            let mut chars = element.chars();
            return match (chars.next(), chars.next()) {
                (Some(c), None) => Ok((Self::Character(c), rest)),
                _ => Err("Invalid collation character"),
            };
        }
        let mut chars = text.chars();
        let c = chars.next().ok_or(UNMATCHED)?;
        Ok((Self::Character(c), chars.as_str()))
    }
}

/// A named class as in glibc's C.UTF-8 locale, for all characters in practical use.
fn named(class: &mut String, name: &str) -> Result<(), &'static str> {
    match name {
        "alpha" => class.push_str("[\\w--[0-9_]]"),
        "alnum" => class.push_str("[\\w--_]"),
        "digit" => class.push_str("0-9"),
        "xdigit" => class.push_str("0-9a-fA-F"),
        "upper" => all(class, char::is_uppercase),
        "lower" => all(class, char::is_lowercase),
        "space" => class.push_str(SPACE),
        "blank" => class.push_str(BLANK),
        "cntrl" => class.push_str(CONTROL),
        "punct" => {
            let _ = write!(class, "[_[^\\w\\n{SPACE}{CONTROL}]]");
        }
        "graph" => {
            let _ = write!(class, "[^\\n{SPACE}{CONTROL}]");
        }
        "print" => {
            let _ = write!(class, "\\x20[^\\n{CONTROL}]");
        }
        _ => return Err("Invalid character class name"),
    }
    Ok(())
}

/// All characters of a kind. Testing every character takes some milliseconds; it is
/// rarely needed, and a table would be large.
fn all(class: &mut String, is: fn(char) -> bool) {
    let mut begin: Option<char> = None;
    let mut last = '\0';
    for c in '\0'..=char::MAX {
        match (is(c), begin) {
            (true, None) => begin = Some(c),
            (false, Some(first)) => {
                let _ = write!(
                    class,
                    "\\x{{{:x}}}-\\x{{{:x}}}",
                    u32::from(first),
                    u32::from(last)
                );
                begin = None;
            }
            _ => {}
        }
        last = c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_behind_text_that_looks_like_it() {
        for (text, after) in [
            ("a]b", "b"),
            ("]]b", "b"),
            ("^]]b", "b"),
            ("[:alpha:]]b", "b"),
            ("[.].]]b", "b"),
            ("[]b", "b"),
            ("a-]b", "b"),
            ("\\]b", "b"),
        ] {
            assert_eq!(translate(text).unwrap().1, after, "{text}");
        }
    }

    #[test]
    fn errors_have_the_texts_of_grep() {
        for (text, what) in [
            ("", UNMATCHED),
            ("a", UNMATCHED),
            ("[:alpha:]", UNMATCHED),
            ("[:alpha", UNMATCHED),
            ("[:foo:]]", "Invalid character class name"),
            ("b-a]", RANGE),
            ("a-c-e]", RANGE),
            ("[:alpha:]-z]", RANGE),
            ("a-[:alpha:]]", RANGE),
            ("[.aa.]]", "Invalid collation character"),
            (
                ":alpha:]",
                "character class syntax is [[:space:]], not [:space:]",
            ),
        ] {
            assert_eq!(translate(text).unwrap_err(), what, "{text}");
        }
    }
}
