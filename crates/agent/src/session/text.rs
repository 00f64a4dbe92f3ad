//! The scripts for a session's shell (start, restore, dump) and the parser for its
//! dump. Pure.
//!
//! Nothing that a command may have changed in its shell is trusted; see the `.sh` files
//! beside this one. POSIX mode finds special builtins before functions, a backslash
//! disables aliases, a separate descriptor keeps a trap's output out of the dump, and
//! all other output goes to `/dev/null`. A shell that has finished its command is no
//! longer inside a sourced file; one that a signal ends may be. Only the former may
//! report its end. Functions named `declare` and `.` are not kept, because the dump and
//! the next restore use these names. Traps are kept except EXIT, which is the dump's,
//! and DEBUG and RETURN, which would run for the restore and, in a sourced file, for
//! nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use super::declared::{self, Baseline};
use super::value::{Kind, Value};

const BASH_DUMP: &str = include_str!("bash_dump.sh");
const COPY_DUMP: &str = include_str!("copy_dump.sh");
const POSIX_BEGIN: &str = include_str!("posix_begin.sh");
const POSIX_DUMP: &str = include_str!("posix_dump.sh");

/// The options with which a shell starts.
const USUAL_OPTIONS: [&str; 3] = ["braceexpand", "hashall", "interactive-comments"];
/// Options that would stop the next command from running, and those that print commands
/// (these are set last).
const HARMFUL: [&str; 5] = ["noexec", "onecmd", "restricted", "xtrace", "verbose"];
/// Switches that every session has on, and those that cannot be set.
const SWITCHED_HERE: [&str; 4] = ["expand_aliases", "restricted_shell", "login_shell", ""];

/// Quotes `text` as one word for any shell.
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

/// The script of a shell that is not bash: restores, waits for its command, runs it.
/// `exports` sets the variables that could not be in its environment.
pub fn begin(exports: &str) -> String {
    POSIX_BEGIN.replace("@ENV@\n", exports)
}

/// The start of bash: installs the dump as EXIT trap.
pub fn prepare(dump: &[u8], exports: &str) -> Vec<u8> {
    let dump = quote(dump);
    let parts: [&[u8]; 4] = [
        b"trap ",
        &dump,
        b" EXIT\n__hutch_d=$BASHOPTS\n",
        exports.as_bytes(),
    ];
    parts.concat()
}

/// The script that the shell runs when it exits: writes its value to the file `out`,
/// with `mark` between the parts and at the end. `names` are the variables that the
/// shell had at its start and may have unset.
pub fn dump(kind: Kind, copied: bool, out: &[u8], mark: &str, names: &str) -> Vec<u8> {
    let text = match kind {
        Kind::Bash if copied => COPY_DUMP,
        Kind::Bash => BASH_DUMP,
        Kind::Posix => POSIX_DUMP,
    };
    let text = text.replace("@MARK@", mark).replace("@NAMES@", names);
    let (head, tail) = text.split_once("@OUT@").unwrap_or((&text, ""));
    [head.as_bytes(), &quote(out), tail.as_bytes()].concat()
}

/// The early restore: directory and variables.
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

/// Changes to a directory, or to its nearest existing parent.
fn enter(directory: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut directory = directory;
    while directory.len() > 1 {
        text.extend(b"cd -- ");
        text.extend(quote(directory));
        text.extend(b" || ");
        let slash = directory.iter().rposition(|byte| *byte == b'/');
        directory = &directory[..slash.unwrap_or_default()];
    }
    text.extend(b"cd /\n");
    text
}

/// The variables that a command's own directory and environment hide.
pub fn hidden(cwd: &[u8], env: &HashMap<String, String>) -> Vec<String> {
    let mut names: Vec<String> = env.keys().cloned().collect();
    if !cwd.is_empty() {
        names.push("OLDPWD".into());
    }
    names
}

/// The restore right before the command, with the command's own directory and
/// variables. In shells other than bash the dump restores the hidden ones.
pub fn last(value: &Value, cwd: &[u8], env: &HashMap<String, String>) -> Vec<u8> {
    let mut text = match value.kind {
        Kind::Bash => b"exec 103<&-\n".to_vec(),
        Kind::Posix => b"exec 7<&-\n".to_vec(),
    };
    // The directory may have been removed while the shell waited.
    text.extend(b"[ ");
    text.extend(quote(&value.cwd));
    text.extend(b" -ef . ] 2>/dev/null || {\n");
    text.extend(enter(&value.cwd));
    text.extend(b"} 2>/dev/null\n");
    if value.kind == Kind::Posix {
        hide(&mut text, &hidden(cwd, env));
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

fn hide(text: &mut Vec<u8>, names: &[String]) {
    for name in names {
        let line = format!(
            "if [ \"${{{name}+x}}\" ]; then __hutch_v_{name}=${name} \
             __hutch_r=\"$__hutch_r {name}=\\$__hutch_v_{name};\"; \
             else __hutch_r=\"$__hutch_r unset {name};\"; fi\n"
        );
        text.extend(line.into_bytes());
    }
}

/// Changes to the command's own directory, or prints the error that `cd` would print.
fn change(cwd: &[u8]) -> Vec<u8> {
    // A leading `./` disables `CDPATH` and options.
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

/// The text of the command for the shell.
pub fn command(value: &Value, script: &[u8]) -> Vec<u8> {
    if value.trace.is_empty() {
        return script.to_vec();
    }
    // Not earlier: it would print the restore.
    let head = [
        b"{ \\builtin set",
        value.trace.as_slice(),
        b"; } 2>/dev/null\n",
    ]
    .concat();
    [head.as_slice(), script].concat()
}

/// The state before a command; needed to parse the dump after it.
#[derive(Debug)]
pub struct Before {
    /// The value with which the shell began.
    pub value: Value,
    /// The variables that were hidden during the command.
    pub hidden: Vec<String>,
    /// The shell's environment.
    pub baseline: Arc<Baseline>,
}

/// Parses a dump; `None` if it is incomplete.
pub fn parse(dumped: &[u8], mark: &str, before: &Before) -> Option<Value> {
    let kind = before.value.kind;
    let line = match kind {
        Kind::Bash => format!("declare -- __hutch_m=\"{mark}\"\n"),
        Kind::Posix => format!("{mark}\n"),
    };
    let parts = split(dumped, line.as_bytes());
    let value = match (kind, parts.as_slice()) {
        // The mark is a variable itself, so it occurs a second time in the variable
        // list. Nothing follows the last mark.
        (Kind::Bash, &[_, functions, traps, mask, cwd, first, second, aliases, []]) => {
            let declared = [first, second].concat();
            let mut value = Value::new(kind, cwd.strip_suffix(b"\n")?.to_vec());
            let old = &before.value.variables;
            value.variables =
                declared::kept_variables(&declared, old, &before.hidden, &before.baseline)?;
            let options = Options::read(&declared)?;
            let mask = if mask == before.baseline.mask {
                &[]
            } else {
                mask
            };
            let parts = [aliases, mask, traps, &options.set, functions];
            value.rest = rest(&options.switches, &parts);
            value.trace = options.trace;
            value
        }
        (Kind::Posix, &[_, cwd, variables, []]) => {
            let mut value = Value::new(kind, cwd.strip_suffix(b"\n")?.to_vec());
            value.variables = variables.to_vec();
            value
        }
        _ => return None,
    };
    value.cwd.starts_with(b"/").then_some(value)
}

/// The restore right before the command; empty if all settings are the defaults.
fn rest(switches: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let parts = parts.concat();
    if switches.is_empty() && parts.is_empty() {
        return Vec::new();
    }
    let (head, tail) = (b"shopt -s expand_aliases\n{\n", b"} >/dev/null 2>&1\n");
    [switches, head, &parts, tail].concat()
}

/// A shell's options, as commands for those that differ from the defaults.
struct Options {
    switches: Vec<u8>,
    set: Vec<u8>,
    trace: Vec<u8>,
}

impl Options {
    /// Reads them from the variables that the dump script has set.
    fn read(declared: &[u8]) -> Option<Self> {
        let all = declared::statements(declared)?;
        let list = |name| Some(declared::plain(&all, name)?.split(':').collect::<Vec<_>>());
        let (first, now) = (list("__hutch_d")?, list("__hutch_b")?);
        let mut switches = Vec::new();
        for (flag, these, others) in [("-u", &first, &now), ("-s", &now, &first)] {
            let these = these.iter().filter(|name| !others.contains(name));
            for name in these.filter(|name| !SWITCHED_HERE.contains(name)) {
                switches.extend(format!("shopt {flag} {name}\n").into_bytes());
            }
        }
        let options = list("__hutch_o")?;
        let mut set = Vec::new();
        if options != USUAL_OPTIONS {
            set.extend(b"set +o braceexpand +o hashall +o interactive-comments");
            for name in options.iter().filter(|name| !HARMFUL.contains(name)) {
                set.extend(format!(" -o {name}").into_bytes());
            }
            set.push(b'\n');
        }
        let mut trace = Vec::new();
        for (name, flag) in [("verbose", b" -v"), ("xtrace", b" -x")] {
            if options.contains(&name) {
                trace.extend(flag);
            }
        }
        Some(Self {
            switches,
            set,
            trace,
        })
    }
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
