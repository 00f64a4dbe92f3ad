//! The texts that a session's shell is given: how it begins, what it restores,
//! how it dumps; and the reading of a dump. Pure.
//!
//! Nothing is trusted of what a command may have done to its shell: see the
//! `.sh` files beside this one. POSIX mode finds special builtins before any
//! function, a backslash stops aliases, descriptor 9 keeps a DEBUG trap's
//! output out of the dump, and everything else goes to `/dev/null`. Traps are
//! kept but for EXIT, which is the dump's, and DEBUG and RETURN, which would run
//! for the restore and, in a file that is sourced, for nothing else.

use std::collections::HashMap;

use super::value::{Kind, Value};

const BASH_BEGIN: &str = include_str!("bash_begin.sh");
const BASH_DUMP: &str = include_str!("bash_dump.sh");
const POSIX_BEGIN: &str = include_str!("posix_begin.sh");
const POSIX_DUMP: &str = include_str!("posix_dump.sh");

/// `text` as one word of any shell.
pub fn quote(text: &[u8]) -> Vec<u8> {
    let mut word = vec![b'\''];
    for byte in text {
        match byte {
            b'\'' => word.extend_from_slice(br"'\''"),
            _ => word.push(*byte),
        }
    }
    word.push(b'\'');
    word
}

/// The shell's whole script: it restores, waits for its command, runs it.
/// `exports` are commands that set what could not be in its environment.
pub fn begin(kind: Kind, exports: &str) -> String {
    match kind {
        Kind::Bash => BASH_BEGIN,
        Kind::Posix => POSIX_BEGIN,
    }
    .replace("@ENV@\n", exports)
}

/// What the shell does when it exits: it writes its value to the file `out`,
/// with `mark` between the parts and at the end. `names` are the variables that
/// the shell had from outside, and that it may have unset.
pub fn dump(kind: Kind, out: &[u8], mark: &str, names: &str) -> Vec<u8> {
    let text = match kind {
        Kind::Bash => BASH_DUMP,
        Kind::Posix => POSIX_DUMP,
    };
    let text = text.replace("@MARK@", mark).replace("@NAMES@", names);
    let (head, tail) = text.split_once("@OUT@").unwrap_or((&text, ""));
    [head.as_bytes(), &quote(out), tail.as_bytes()].concat()
}

/// What the shell restores ahead of its command: directory and variables.
pub fn restore(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    if value.kind == Kind::Bash {
        text.extend(enter(&value.cwd));
        text.extend(&value.variables);
    } else {
        text.extend(&value.variables);
        text.extend(b"__hutch_w=$OLDPWD\n");
        text.extend(enter(&value.cwd));
        text.extend(b"OLDPWD=$__hutch_w\n");
    }
    text
}

/// Goes to a directory, or the nearest above it that is there.
fn enter(folder: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut folder = folder;
    while folder.len() > 1 {
        text.extend(b"cd -- ");
        text.extend(quote(folder));
        text.extend(b" || ");
        let slash = folder.iter().rposition(|byte| *byte == b'/');
        folder = &folder[..slash.unwrap_or_default()];
    }
    text.extend(b"cd /\n");
    text
}

/// What the shell restores right before its command, with the directory and the
/// variables of that command alone. Variables that they hide are written to the
/// file `saved` (bash), or put back by the dump (other shells).
pub fn last(value: &Value, cwd: &[u8], env: &HashMap<String, String>, saved: &[u8]) -> Vec<u8> {
    let mut text = b"exec 6<&-\n".to_vec();
    // The shell may have waited while its directory went away.
    text.extend(b"[ ");
    text.extend(quote(&value.cwd));
    text.extend(b" -ef . ] 2>/dev/null || {\n");
    text.extend(enter(&value.cwd));
    text.extend(b"} 2>/dev/null\n");
    let mut hidden: Vec<&str> = env.keys().map(String::as_str).collect();
    if !cwd.is_empty() {
        hidden.push("OLDPWD");
    }
    if !hidden.is_empty() {
        match value.kind {
            Kind::Bash => hide_bash(&mut text, &hidden, saved),
            Kind::Posix => hide_posix(&mut text, &hidden),
        }
    }
    for (name, value) in env {
        text.extend([b"export ", name.as_bytes(), b"="].concat());
        text.extend(quote(value.as_bytes()));
        text.push(b'\n');
    }
    if !cwd.is_empty() {
        text.extend(change(cwd));
    }
    match value.kind {
        Kind::Bash if value.rest.is_empty() => text.extend(b"shopt -s expand_aliases\n"),
        _ => text.extend(&value.rest),
    }
    text
}

fn hide_bash(text: &mut Vec<u8>, names: &[&str], saved: &[u8]) {
    let names = names.join(" ");
    text.extend(format!("__hutch_k=' {names} '\ndeclare -p {names} >|").into_bytes());
    text.extend(quote(saved));
    text.extend(b" 2>/dev/null\n");
}

fn hide_posix(text: &mut Vec<u8>, names: &[&str]) {
    for name in names {
        let line = format!(
            "if [ \"${{{name}+x}}\" ]; then __hutch_v_{name}=${name} \
             __hutch_r=\"$__hutch_r {name}=\\$__hutch_v_{name};\"; \
             else __hutch_r=\"$__hutch_r unset {name};\"; fi\n"
        );
        text.extend(line.into_bytes());
    }
}

/// Goes to the command's own directory, or says why not as `cd` does.
fn change(cwd: &[u8]) -> Vec<u8> {
    // A leading `./` keeps `CDPATH` and dashes out of it.
    let path = if cwd.starts_with(b"/") {
        cwd.to_vec()
    } else {
        [b"./", cwd].concat()
    };
    let (path, name) = (quote(&path), quote(cwd));
    [
        b"if ! cd ".as_slice(),
        &path,
        b" 2>/dev/null; then\nif ! [ -e ",
        &path,
        b" ]; then __hutch_g='No such file or directory'\nelif ! [ -d ",
        &path,
        b" ]; then __hutch_g='Not a directory'\nelse __hutch_g='Permission denied'; fi\n\
          printf 'cd: %s: %s\\n' ",
        &name,
        b" \"$__hutch_g\" >&2\nexit 1\nfi\n",
    ]
    .concat()
}

/// The command as the shell reads it.
pub fn command(value: &Value, script: &[u8]) -> Vec<u8> {
    if value.trace.is_empty() {
        return script.to_vec();
    }
    // Not earlier, or it would print the restore.
    let head = [
        b"{ \\builtin set",
        value.trace.as_slice(),
        b"; } 2>/dev/null\n",
    ]
    .concat();
    [head.as_slice(), script].concat()
}

/// The value in what a shell dumped; none where it is not whole.
pub fn parse(kind: Kind, dumped: &[u8], mark: &str) -> Option<Value> {
    let line = match kind {
        Kind::Bash => format!("declare -- __hutch_m=\"{mark}\"\n"),
        Kind::Posix => format!("{mark}\n"),
    };
    let mut parts = split(dumped, line.as_bytes()).into_iter().skip(1);
    let mut next = || parts.next().map(<[u8]>::to_vec);
    let value = match kind {
        Kind::Bash => {
            let (functions, traps) = (next()?, next()?);
            let cwd = next()?.strip_suffix(b"\n")?.to_vec();
            let variables = next()?;
            let (switches, options, trace, aliases) = (next()?, next()?, next()?, next()?);
            let rest: [&[u8]; 8] = [
                &switches,
                b"shopt -s expand_aliases\n{\n",
                &aliases,
                &traps,
                &options,
                b"\n",
                &functions,
                b"} >/dev/null 2>&1\n",
            ];
            Value {
                kind,
                cwd,
                variables,
                rest: rest.concat(),
                trace,
            }
        }
        Kind::Posix => {
            let cwd = next()?.strip_suffix(b"\n")?.to_vec();
            let variables = next()?;
            Value {
                variables,
                ..Value::new(kind, cwd)
            }
        }
    };
    // The end mark has nothing behind it.
    (next()?.is_empty() && next().is_none() && value.cwd.starts_with(b"/")).then_some(value)
}

fn split<'a>(bytes: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let (mut begin, mut place) = (0, 0);
    while place + mark.len() <= bytes.len() {
        if bytes[place..].starts_with(mark) {
            parts.push(&bytes[begin..place]);
            place += mark.len();
            begin = place;
        } else {
            place += 1;
        }
    }
    parts.push(&bytes[begin..]);
    parts
}
