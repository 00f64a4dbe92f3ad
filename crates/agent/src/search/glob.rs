//! Patterns of fnmatch(3) without flags, in a UTF-8 locale. Pure.
//!
//! As in glibc, a name that does not match by characters may match by bytes: names need
//! not be UTF-8. A `[` without its end is a literal. The time is bounded by pattern
//! length times name length.

/// A parsed pattern.
#[derive(Debug)]
pub struct Glob {
    characters: Vec<Token>,
    bytes: Vec<Token>,
}

#[derive(Debug)]
enum Token {
    One(u32),
    Any,
    Star,
    Set {
        negated: bool,
        items: Vec<Item>,
    },
    /// Invalid; matches nothing.
    Never,
}

#[derive(Debug)]
enum Item {
    Range(u32, u32),
    Class(fn(char) -> bool),
}

impl Glob {
    /// Parses a pattern; every text is valid.
    pub fn new(pattern: &str) -> Self {
        let characters: Vec<u32> = pattern.chars().map(u32::from).collect();
        let bytes: Vec<u32> = pattern.bytes().map(byte).collect();
        Self {
            characters: tokens(&characters),
            bytes: tokens(&bytes),
        }
    }

    /// True if it matches the whole name.
    pub fn matches(&self, name: &[u8]) -> bool {
        let characters = std::str::from_utf8(name).is_ok_and(|name| {
            let name: Vec<u32> = name.chars().map(u32::from).collect();
            run(&self.characters, &name)
        });
        characters || {
            let name: Vec<u32> = name.iter().copied().map(byte).collect();
            run(&self.bytes, &name)
        }
    }
}

/// Maps a non-ASCII byte to a number that is no character.
fn byte(byte: u8) -> u32 {
    let offset = if byte.is_ascii() { 0 } else { 0x11_0000 };
    offset + u32::from(byte)
}

fn is(c: u32, what: char) -> bool {
    c == u32::from(what)
}

fn tokens(pattern: &[u32]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let [c, after @ ..] = rest {
        rest = after;
        tokens.push(match char::from_u32(*c) {
            Some('?') => Token::Any,
            Some('*') => Token::Star,
            Some('\\') => match rest {
                [escaped, after @ ..] => {
                    rest = after;
                    Token::One(*escaped)
                }
                [] => Token::Never,
            },
            Some('[') => match set(rest) {
                Some((token, after)) => {
                    rest = after;
                    token
                }
                None => Token::One(*c),
            },
            _ => Token::One(*c),
        });
    }
    tokens
}

/// Parses the set after its `[`; returns it and the rest. `None` if it has no end.
fn set(text: &[u32]) -> Option<(Token, &[u32])> {
    let (negated, mut rest) = match text {
        [c, rest @ ..] if is(*c, '!') || is(*c, '^') => (true, rest),
        _ => (false, text),
    };
    let mut items = Vec::new();
    let mut valid = true;
    let mut first = true;
    loop {
        match rest {
            [c, after @ ..] if is(*c, ']') && !first => {
                let token = if valid {
                    Token::Set { negated, items }
                } else {
                    Token::Never
                };
                return Some((token, after));
            }
            [a, b, inside @ ..] if is(*a, '[') && is(*b, ':') => {
                let end = inside
                    .windows(2)
                    .position(|two| is(two[0], ':') && is(two[1], ']'))?;
                match class(&inside[..end]) {
                    Some(class) => items.push(Item::Class(class)),
                    None => valid = false,
                }
                rest = &inside[end + 2..];
            }
            _ => {
                let (low, after) = character(rest, &mut valid)?;
                let (high, after) = match after {
                    [dash, end @ ..]
                        if is(*dash, '-') && !end.first().is_some_and(|c| is(*c, ']')) =>
                    {
                        character(end, &mut valid)?
                    }
                    _ => (low, after),
                };
                items.push(Item::Range(low, high));
                rest = after;
            }
        }
        first = false;
    }
}

/// Parses one end of a range; returns it and the rest.
fn character<'a>(text: &'a [u32], valid: &mut bool) -> Option<(u32, &'a [u32])> {
    match text {
        [a, mark, inside @ ..] if is(*a, '[') && (is(*mark, '.') || is(*mark, '=')) => {
            let end = inside
                .windows(2)
                .position(|two| two[0] == *mark && is(two[1], ']'))?;
            *valid &= end == 1;
            Some((inside[0], &inside[end + 2..]))
        }
        [a, escaped, after @ ..] if is(*a, '\\') => Some((*escaped, after)),
        [c, after @ ..] => Some((*c, after)),
        [] => None,
    }
}

fn class(name: &[u32]) -> Option<fn(char) -> bool> {
    let name: String = name.iter().copied().filter_map(char::from_u32).collect();
    Some(match name.as_str() {
        "alpha" => |c| c.is_alphabetic(),
        "alnum" => |c| c.is_alphanumeric(),
        "digit" => |c| c.is_ascii_digit(),
        "xdigit" => |c| c.is_ascii_hexdigit(),
        "upper" => |c| c.is_uppercase(),
        "lower" => |c| c.is_lowercase(),
        "space" => |c| c.is_whitespace(),
        "blank" => |c| c == '\t' || c == ' ',
        "cntrl" => |c| c.is_control(),
        "punct" => |c| !c.is_alphanumeric() && !c.is_whitespace() && !c.is_control(),
        "graph" => |c| !c.is_whitespace() && !c.is_control(),
        "print" => |c| !c.is_control(),
        _ => return None,
    })
}

fn fits(token: &Token, c: u32) -> bool {
    match token {
        Token::One(one) => *one == c,
        Token::Any => true,
        Token::Star | Token::Never => false,
        Token::Set { negated, items } => {
            let found = items.iter().any(|item| match item {
                Item::Range(low, high) => (*low..=*high).contains(&c),
                Item::Class(class) => char::from_u32(c).is_some_and(class),
            });
            found != *negated
        }
    }
}

/// Matches with backtracking to the last star only, which is sufficient.
fn run(tokens: &[Token], name: &[u32]) -> bool {
    let (mut t, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (tokens.get(t), name.get(n)) {
            (None, None) => return true,
            (Some(Token::Star), _) => {
                t += 1;
                star = Some((t, n));
                continue;
            }
            (Some(token), Some(c)) if fits(token, *c) => {
                (t, n) = (t + 1, n + 1);
                continue;
            }
            _ => {}
        }
        match star {
            Some((after, from)) if from < name.len() => {
                star = Some((after, from + 1));
                (t, n) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_find() {
        for (pattern, names, others) in [
            ("*", vec!["", "a", ".hid", "\n"], vec![]),
            ("*.rs", vec![".rs", "a.rs"], vec!["a.rsx", "rs"]),
            ("a?b", vec!["aéb", "a\nb"], vec!["ab", "axxb"]),
            ("a*b*c", vec!["abc", "aXbXbXc"], vec!["acb"]),
            ("[!a]", vec!["b", "é"], vec!["a", ""]),
            ("[^a]", vec!["b"], vec!["a"]),
            ("[]a]", vec!["]", "a"], vec!["b"]),
            ("[!]]", vec!["a"], vec!["]"]),
            ("[\\]]", vec!["]"], vec!["\\"]),
            ("[[:digit:]x]", vec!["1", "x"], vec!["d"]),
            ("[[:foo:]a]", vec![], vec!["a", "f"]),
            ("[z-a]", vec![], vec!["a", "z", "-"]),
            ("[a-c-e]", vec!["b", "-", "e"], vec!["d"]),
            ("[[.-.]a]", vec!["-", "a"], vec!["."]),
            ("[a", vec!["[a"], vec!["a"]),
            ("[", vec!["["], vec![]),
            ("\\*", vec!["*"], vec!["\\a", "a"]),
            ("a\\", vec![], vec!["a", "a\\"]),
            ("", vec![""], vec!["a"]),
        ] {
            let glob = Glob::new(pattern);
            for name in names {
                assert!(glob.matches(name.as_bytes()), "{pattern:?} {name:?}");
            }
            for name in others {
                assert!(!glob.matches(name.as_bytes()), "{pattern:?} {name:?}");
            }
        }
        assert!(Glob::new("a?b").matches(b"a\xffb"));
        assert!(!Glob::new("[[:alpha:]]").matches(b"\xff"));
        assert!(Glob::new("?").matches("é".as_bytes()));
    }

    #[test]
    fn many_stars_take_no_time() {
        let begin = std::time::Instant::now();
        let glob = Glob::new(&"a*".repeat(8000));
        assert!(!glob.matches("a".repeat(255).as_bytes()));
        assert!(!Glob::new(&("*a".repeat(100) + "b")).matches("a".repeat(255).as_bytes()));
        assert!(begin.elapsed().as_secs() < 1);
    }
}
