//! Translates POSIX basic regular expressions with GNU extensions into the engine's
//! syntax. Pure.
//!
//! It follows GNU grep 3.8: a `*` at the beginning is a literal star; `^` and `$` are
//! anchors only at the ends of an alternative. Back-references need exponential time
//! and are refused. No expression built here can match a line end.

use std::fmt::Write as _;

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;

use super::bracket::{self, SPACE};

/// Largest compiled expression, and largest cache of its automaton, in bytes.
const MAX_AUTOMATON_BYTES: usize = 1 << 20;
/// Deepest nesting; the engine's compiler is recursive.
const MAX_NESTING: u32 = 50;
/// Most repetitions in an interval (RE_DUP_MAX).
const MAX_REPETITIONS: u32 = 32767;

const TOO_BIG: &str = "Regular expression too big";

/// Compiles a list of expressions, one per line; a match of any of them counts.
///
/// # Errors
/// The message of grep for each invalid expression.
pub fn compile(pattern: &str) -> Result<Regex, Vec<&'static str>> {
    let mut wrong = Vec::new();
    let mut whole = String::new();
    for line in pattern.split('\n') {
        match Translation::of(line) {
            Ok(one) => {
                let bar = if whole.is_empty() { "" } else { "|" };
                let _ = write!(whole, "{bar}(?:{one})");
            }
            Err(what) => wrong.push(what),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    build(&whole).ok_or_else(|| vec![TOO_BIG])
}

/// `None` if it exceeds a limit; the syntax is valid by construction.
fn build(expression: &str) -> Option<Regex> {
    let syntax = syntax::Config::new()
        .utf8(false)
        .multi_line(true)
        .nest_limit(MAX_NESTING);
    let config = Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(MAX_AUTOMATON_BYTES))
        .hybrid_cache_capacity(MAX_AUTOMATON_BYTES);
    Regex::builder()
        .syntax(syntax)
        .configure(config)
        .build(expression)
        .ok()
}

/// The translation of one line.
struct Translation<'a> {
    rest: &'a str,
    out: String,
    /// Where the last repeatable atom begins in `out`.
    atom: Option<usize>,
    /// Where each open group begins.
    groups: Vec<usize>,
    closed: u32,
    /// True at the beginning of an alternative, where `^` is an anchor.
    first: bool,
    /// True there or after that anchor, where nothing can be repeated.
    start: bool,
}

impl<'a> Translation<'a> {
    fn of(line: &'a str) -> Result<String, &'static str> {
        let mut translation = Self {
            rest: line,
            out: String::new(),
            atom: None,
            groups: Vec::new(),
            closed: 0,
            first: true,
            start: true,
        };
        while let Some(c) = translation.next() {
            translation.plain(c)?;
        }
        if translation.groups.is_empty() {
            Ok(translation.out)
        } else {
            Err("Unmatched ( or \\(")
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    fn plain(&mut self, c: char) -> Result<(), &'static str> {
        match c {
            '\\' => return self.escaped(),
            '*' if !self.start => self.repeat("*"),
            '.' => self.add("."),
            '[' => {
                let (class, rest) = bracket::translate(self.rest)?;
                self.rest = rest;
                self.add(&class);
            }
            '^' if self.first => {
                self.out.push('^');
                (self.first, self.atom) = (false, None);
            }
            '$' if self.at_an_end() => self.add("$"),
            other => self.literal(other),
        }
        Ok(())
    }

    fn at_an_end(&self) -> bool {
        self.rest.is_empty() || self.rest.starts_with("\\)") || self.rest.starts_with("\\|")
    }

    fn escaped(&mut self) -> Result<(), &'static str> {
        match self.next().ok_or("Trailing backslash")? {
            '(' => {
                self.groups.push(self.out.len());
                self.out.push_str("(?:");
                self.begin();
            }
            ')' => {
                let group = self.groups.pop().ok_or("Unmatched ) or \\)")?;
                self.out.push(')');
                self.closed += 1;
                (self.atom, self.first, self.start) = (Some(group), false, false);
            }
            '|' => {
                self.out.push('|');
                self.begin();
            }
            '+' if !self.start => self.repeat("+"),
            '?' if !self.start => self.repeat("?"),
            '{' if !self.start => self.interval()?,
            'w' => self.add("\\w"),
            'W' => self.add("[^\\w\\n]"),
            's' => self.add(&format!("[{SPACE}]")),
            'S' => self.add(&format!("[^{SPACE}\\n]")),
            'b' => self.add("\\b"),
            'B' => self.add("\\B"),
            '<' => self.add("\\b{start}"),
            '>' => self.add("\\b{end}"),
            '`' => self.add("^"),
            '\'' => self.add("$"),
            digit @ '1'..='9' => {
                let known = digit.to_digit(10).is_some_and(|group| group <= self.closed);
                return Err(if known {
                    "back-references are not supported in this sandbox's search"
                } else {
                    "Invalid back reference"
                });
            }
            other => self.literal(other),
        }
        Ok(())
    }

    fn begin(&mut self) {
        (self.atom, self.first, self.start) = (None, true, true);
    }

    fn add(&mut self, what: &str) {
        self.atom = Some(self.out.len());
        self.out.push_str(what);
        (self.first, self.start) = (false, false);
    }

    fn literal(&mut self, c: char) {
        self.atom = Some(self.out.len());
        bracket::literal(&mut self.out, c);
        (self.first, self.start) = (false, false);
    }

    fn repeat(&mut self, how: &str) {
        if let Some(atom) = self.atom {
            self.out.insert_str(atom, "(?:");
            self.out.push(')');
            self.out.push_str(how);
        }
    }

    fn interval(&mut self) -> Result<(), &'static str> {
        let (inside, rest) = self.rest.split_once("\\}").ok_or("Unmatched \\{")?;
        self.rest = rest;
        let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
        let number = |text: &str| match text {
            "" => Ok(None),
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number = text
                    .parse()
                    .ok()
                    .filter(|number| *number <= MAX_REPETITIONS);
                number.map(Some).ok_or(TOO_BIG)
            }
            _ => Err("Invalid content of \\{\\}"),
        };
        let (least, most) = (number(least)?, number(most)?);
        let wrong = inside.is_empty() || most.is_some_and(|most| least.unwrap_or(0) > most);
        if wrong {
            return Err("Invalid content of \\{\\}");
        }
        let most = most.map(|most| most.to_string()).unwrap_or_default();
        self.repeat(&format!("{{{},{most}}}", least.unwrap_or(0)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, line: &str) -> bool {
        compile(pattern).unwrap().is_match(line.as_bytes())
    }

    #[test]
    fn special_characters_depend_on_their_position() {
        for (pattern, line, whether) in [
            ("*x", "*x", true),
            ("^*x", "*x", true),
            ("^*x", "x", false),
            ("\\(*x\\)", "*x", true),
            ("a\\|*x", "*x", true),
            ("a+b", "aab", false),
            ("a\\+b", "aab", true),
            ("\\+x", "+x", true),
            ("x^", "x^", true),
            ("^^x", "^x", true),
            ("$y", "x$y", true),
            ("\\(x$\\)", "x$", false),
            ("\\{1\\}x", "{1}x", true),
            ("a\\{2\\}", "xaax", true),
            ("a\\{,2\\}b", "b", true),
            ("(a|b){2}", "(a|b){2}", true),
            ("\\d", "d", true),
            ("\\(ab\\)*c", "c", true),
            ("x\n^d", "d", true),
            ("x\n", "anything", true),
            ("\\<b\\>", "a b c", true),
            ("[\\d]", "\\", true),
            ("\\Bo", "oo", true),
        ] {
            assert_eq!(matches(pattern, line), whether, "{pattern:?} in {line:?}");
        }
    }

    #[test]
    fn nothing_matches_a_lines_end() {
        for pattern in [
            ".",
            "[^a]",
            "\\W",
            "\\s",
            "\\S",
            "[[:space:]]",
            "[^[:alpha:]]",
        ] {
            assert!(!matches(pattern, "\n"), "{pattern}");
        }
    }

    #[test]
    fn errors_have_the_texts_of_grep() {
        for (pattern, what) in [
            ("\\(", "Unmatched ( or \\("),
            ("a\\)", "Unmatched ) or \\)"),
            ("a\\", "Trailing backslash"),
            ("a\\{1", "Unmatched \\{"),
            ("a\\{\\}", "Invalid content of \\{\\}"),
            ("a\\{2,1\\}", "Invalid content of \\{\\}"),
            ("a\\{99999\\}", TOO_BIG),
            ("\\(a\\)\\2", "Invalid back reference"),
        ] {
            assert_eq!(compile(pattern).unwrap_err(), [what], "{pattern}");
        }
        assert_eq!(compile("\\(x\n\\)").unwrap_err().len(), 2);
        assert!(compile("\\(a\\)\\1").unwrap_err()[0].contains("not supported"));
    }

    /// On a stack as small as a worker's.
    #[test]
    fn hostile_patterns_do_not_overflow_a_workers_stack() {
        let test = || {
            for (pattern, compiles) in [
                ("\\(".repeat(5000) + &"\\)".repeat(5000), false),
                ("\\(".repeat(49) + "a" + &"\\)*".repeat(49), false),
                ("a".to_owned() + &"*".repeat(16000), false),
                (
                    "\\(\\(\\(a\\{32767\\}\\)\\{32767\\}\\)\\{32767\\}\\)".into(),
                    false,
                ),
                ("\\w\\{1000\\}".into(), false),
                ("a\\|".repeat(5000), true),
                ("\n".repeat(16000), true),
                ("[a-z]".repeat(3000), true),
            ] {
                let head = &pattern[..10];
                match compile(&pattern) {
                    Ok(_) => assert!(compiles, "{head:?}"),
                    Err(said) => assert!(!compiles && said == [TOO_BIG], "{head:?}: {said:?}"),
                }
            }
        };
        let thread = std::thread::Builder::new().stack_size(crate::files::STACK_BYTES);
        thread.spawn(test).unwrap().join().unwrap();
    }
}
