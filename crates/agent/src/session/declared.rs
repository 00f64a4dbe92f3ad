//! Parses the output of bash's `declare -p` and selects the variables that a session
//! keeps. Pure.
//!
//! The text consists of commands that each set one variable, in bash's own quoting. It
//! is not executed and values are not interpreted: the parser only finds where a
//! command ends and which variable it sets. Variables that bash makes itself are
//! dropped, and so are variables that equal the environment's: the value stays small
//! and a new pod's environment takes effect.

use std::collections::{HashMap, HashSet};

use crate::process::Environment;

/// The initial values of every bash.
const USUAL: [&str; 5] = [
    "declare -- IFS=$' \\t\\n'\n",
    "declare -- OPTERR=\"1\"\n",
    "declare -- OPTIND=\"1\"\n",
    "declare -i OPTIND=\"1\"\n",
    "declare -- PS4=\"+ \"\n",
];
/// Variables that bash makes itself, or that are handled elsewhere.
const OWN: [&str; 22] = [
    "_",
    "BASH",
    "BASHOPTS",
    "BASHPID",
    "COPROC",
    "COPROC_PID",
    "DIRSTACK",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "HISTCMD",
    "LINENO",
    "PIPESTATUS",
    "POSIXLY_CORRECT",
    "PPID",
    "PWD",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SHLVL",
    "SRANDOM",
    "UID",
];
/// The same by prefix, except [`BASH_ENV`].
const OWN_PREFIXES: [&str; 4] = ["__hutch_", "BASH_", "COMP_", "EPOCH"];
const BASH_ENV: &[u8] = b"BASH_ENV";

/// A command that sets or declares one variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The whole command with its final newline.
    pub text: &'a [u8],
    name: &'a [u8],
    read_only: bool,
    set: bool,
}

/// The variables with which a session's shells start, as bash declares them.
#[derive(Debug, Default)]
pub struct Baseline {
    variables: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// The umask, as a command.
    pub mask: Vec<u8>,
}

impl Baseline {
    /// The baseline of an environment. A value that bash would quote in another way is
    /// not recognised; it is then stored needlessly, which is harmless.
    pub fn new(environment: &Environment, mask: u32) -> Self {
        let line = |name: &str| {
            let value = environment.get(name)?;
            let plain = value.iter().all(|byte| (b' '..=b'~').contains(byte));
            plain.then(|| declare(name, value))
        };
        let names = environment.names().into_iter();
        Self {
            variables: names.map(|name| (name.into(), line(name))).collect(),
            mask: format!("umask {mask:04o}\n").into_bytes(),
        }
    }

    fn has(&self, statement: &Statement<'_>) -> bool {
        match self.variables.get(statement.name) {
            Some(line) => line.as_deref() == Some(statement.text),
            None => USUAL.iter().any(|usual| usual.as_bytes() == statement.text),
        }
    }
}

/// The command by which bash declares an exported variable of printable text.
fn declare(name: &str, value: &[u8]) -> Vec<u8> {
    let mut line = format!("declare -x {name}=\"").into_bytes();
    for byte in value {
        if matches!(byte, b'"' | b'$' | b'`' | b'\\') {
            line.push(b'\\');
        }
        line.push(*byte);
    }
    line.extend(b"\"\n");
    line
}

/// Selects the variables that a session keeps from `declared`, the output of its shell.
/// Variables hidden during the command are taken from `before`. `None` if the text is
/// incomplete.
pub fn kept_variables(
    declared: &[u8],
    before: &[u8],
    hidden: &[String],
    baseline: &Baseline,
) -> Option<Vec<u8>> {
    let hidden: HashSet<&[u8]> = hidden.iter().map(String::as_bytes).collect();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    let mut kept = Vec::new();
    for statement in statements(declared)? {
        let name = statement.name;
        seen.insert(name);
        if hidden.contains(name) || statement.read_only || own(name) || baseline.has(&statement) {
            continue;
        }
        if !statement.set && baseline.variables.contains_key(name) {
            unset(&mut kept, name);
        }
        kept.extend(statement.text);
    }
    for name in baseline.variables.keys().map(Vec::as_slice) {
        if !seen.contains(name) && !hidden.contains(name) {
            unset(&mut kept, name);
        }
    }
    if !hidden.is_empty() {
        let before = statements(before).unwrap_or_default();
        let before = before.iter().filter(|old| hidden.contains(old.name));
        before.for_each(|old| kept.extend(old.text));
    }
    Some(kept)
}

/// The value of a simple variable, such as an option list.
pub fn plain<'a>(declared: &[Statement<'a>], name: &str) -> Option<&'a str> {
    let of_name = |statement: &&Statement<'_>| statement.name == name.as_bytes();
    let statement = declared.iter().find(of_name)?;
    let (_, quoted) = std::str::from_utf8(statement.text).ok()?.split_once('=')?;
    quoted.trim_end().strip_prefix('"')?.strip_suffix('"')
}

fn own(name: &[u8]) -> bool {
    let begins = |prefix: &&str| name.starts_with(prefix.as_bytes());
    name != BASH_ENV
        && (OWN.iter().any(|own| own.as_bytes() == name) || OWN_PREFIXES.iter().any(begins))
}

fn unset(kept: &mut Vec<u8>, name: &[u8]) {
    kept.extend([b"unset -v ", name, b"\n"].concat());
}

/// Splits a text into commands; `None` if a quote or a parenthesis stays open.
pub fn statements(text: &[u8]) -> Option<Vec<Statement<'_>>> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (command, more) = rest.split_at(length(rest)?);
        found.extend(statement(command));
        rest = more;
    }
    Some(found)
}

/// Parses one command; `None` if it sets no variable.
fn statement(text: &[u8]) -> Option<Statement<'_>> {
    let mut rest = text;
    let mut next = || {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let (word, more) = rest.split_at(space);
        rest = &more[1..];
        Some(word)
    };
    let mut read_only = false;
    match next()? {
        b"declare" => read_only = next()?.contains(&b'r'),
        b"unset" => _ = next()?,
        b"export" => {}
        _ => return None,
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = rest.iter().position(|byte| !plain(byte))?;
    Some(Statement {
        text,
        name: &rest[..end],
        read_only,
        set: rest[end] == b'=',
    })
}

/// Length of the first command with its newline.
fn length(text: &[u8]) -> Option<usize> {
    let (mut place, mut depth) = (0, 0_usize);
    loop {
        let byte = *text.get(place)?;
        place += 1;
        match byte {
            b'\\' => place += 1,
            b'\'' if text[..place - 1].ends_with(b"$") => place += quoted(&text[place..], b'\'')?,
            b'\'' => place += text[place..].iter().position(|byte| *byte == b'\'')? + 1,
            b'"' => place += quoted(&text[place..], b'"')?,
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            b'\n' if depth == 0 => return Some(place),
            _ => {}
        }
    }
}

/// Length of a quoted text in which a backslash escapes the next byte.
fn quoted(text: &[u8], end: u8) -> Option<usize> {
    let mut place = 0;
    loop {
        match *text.get(place)? {
            b'\\' => place += 2,
            byte if byte == end => return Some(place + 1),
            _ => place += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(declared: &str, before: &str, hidden: &[&str], baseline: &[(&str, &str)]) -> String {
        let hidden: Vec<String> = hidden.iter().map(ToString::to_string).collect();
        let line = |(name, value): &(&str, &str)| {
            let line = declare(name, value.as_bytes());
            (name.as_bytes().to_vec(), Some(line))
        };
        let baseline = Baseline {
            variables: baseline.iter().map(line).collect(),
            ..Baseline::default()
        };
        let kept = kept_variables(declared.as_bytes(), before.as_bytes(), &hidden, &baseline);
        String::from_utf8(kept.unwrap()).unwrap()
    }

    #[test]
    fn commands_end_where_bash_ends_them() {
        let all = [
            "declare -- x=$'a\\nb\\'c'\n",
            "declare -- y=\"q\\\"\\$\\`\\\\\"\n",
            "declare -- old=\"two\nlines) (\"\n",
            "declare -A m=([$'n\\n']=\"w\" [\"]\"]=\"z\" [\"a\\\"b\"]=\"(\" )\n",
            "declare -a older='([0]=\"a\" [1]=\"it'\\''s\")'\n",
            "declare -n r=\"x\"\n",
            "declare -x ux\n",
        ];
        let text = all.concat();
        let found = statements(text.as_bytes()).unwrap();
        assert_eq!(found.len(), all.len());
        for (statement, text) in found.iter().zip(all) {
            assert_eq!(statement.text, text.as_bytes());
        }
        assert_eq!(kept(&text, "", &[], &[]), text);
        for end in 1..text.len() {
            if text.as_bytes()[end - 1] != b'\n' {
                assert_eq!(statements(&text.as_bytes()[..end]), None, "{end}");
            }
        }
    }

    #[test]
    fn variables_that_bash_creates_are_left_out() {
        let text = "declare -ir UID=\"0\"\ndeclare -r mine=\"1\"\ndeclare -- BASH_VERSION=\"5\"\n\
                    declare -- EPOCHSECONDS\ndeclare -- _=\"x\"\ndeclare -- __hutch_c=\"0\"\n";
        assert_eq!(kept(text, "", &[], &[]), "");
        let text = "declare -x BASH_ENV=\"/x\"\ndeclare -- BASHFUL=\"1\"\n";
        assert_eq!(kept(text, "", &[], &[]), text);
    }

    #[test]
    fn only_differences_from_the_environment_are_kept() {
        let baseline = [("A", "it's \"$1\""), ("B", "b"), ("C", "c")];
        let text = "declare -x A=\"it's \\\"\\$1\\\"\"\ndeclare -- B=\"b\"\n";
        let expected = "declare -- B=\"b\"\nunset -v C\n";
        assert_eq!(kept(text, "", &[], &baseline), expected);
        let text = "declare -x A\n";
        assert_eq!(
            kept(text, "", &[], &[("A", "a")]),
            "unset -v A\ndeclare -x A\n"
        );
        let text = "declare -- IFS=$' \\t\\n'\n";
        assert_eq!(kept(text, "", &[], &[]), "");
        assert_eq!(kept(text, "", &[], &[("IFS", ":")]), text);
    }

    #[test]
    fn hidden_variables_keep_their_value() {
        let before = "export A='it'\\''s'\ndeclare -x B=\"1\"\nunset -v C\n";
        let text = "declare -x A=\"changed\"\ndeclare -x B=\"2\"\ndeclare -x C=\"3\"\n";
        assert_eq!(
            kept(text, before, &["A", "C", "D"], &[("D", "d")]),
            "declare -x B=\"2\"\nexport A='it'\\''s'\nunset -v C\n"
        );
    }
}
