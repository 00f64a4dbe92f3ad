//! The texts that a session's shell is given: how it begins, what it restores,
//! how it dumps; and the reading of a dump. Pure.
//!
//! Nothing is trusted of what a command may have done to its shell: see the
//! `.sh` files beside this one. POSIX mode finds special builtins before any
//! function, a backslash stops aliases, a descriptor of its own keeps a trap's
//! output out of the dump, and everything else goes to `/dev/null`. A shell that
//! is done with its command is in no file any more, which tells it from one that
//! a signal ends: only the former may say that it goes. Functions of the names
//! `declare` and `.` are not kept: the dump and the next command use them. Traps are
//! kept but for EXIT, which is the dump's, and DEBUG and RETURN, which would run
//! for the restore and, in a file that is sourced, for nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use super::declared::{self, Baseline};
use super::value::{Kind, Value};

const BASH_DUMP: &str = include_str!("bash_dump.sh");
const COPY_DUMP: &str = include_str!("copy_dump.sh");
const POSIX_BEGIN: &str = include_str!("posix_begin.sh");
const POSIX_DUMP: &str = include_str!("posix_dump.sh");

/// The options that a shell starts with.
const USUAL_OPTIONS: [&str; 3] = ["braceexpand", "hashall", "interactive-comments"];
/// Options that would stop the next command from running, and those that print
/// what runs: they come last.
const HARMFUL: [&str; 5] = ["noexec", "onecmd", "restricted", "xtrace", "verbose"];
/// Switches that every session has on, and those that cannot be set.
const SWITCHED_HERE: [&str; 4] = ["expand_aliases", "restricted_shell", "login_shell", ""];

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

/// The whole script of a shell that is not bash: it restores, waits for its
/// command, runs it. `exports` are commands that set what could not be in its
/// environment.
pub fn begin(exports: &str) -> String {
    POSIX_BEGIN.replace("@ENV@\n", exports)
}

/// What bash does first: it sees to its dump.
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

/// What the shell does when it exits: it writes its value to the file `out`,
/// with `mark` between the parts and at the end. `names` are the variables that
/// the shell had from outside, and that it may have unset.
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

/// The variables that a command's own directory and environment hide.
pub fn hidden(cwd: &[u8], env: &HashMap<String, String>) -> Vec<String> {
    let mut names: Vec<String> = env.keys().cloned().collect();
    if !cwd.is_empty() {
        names.push("OLDPWD".into());
    }
    names
}

/// What the shell restores right before its command, with the directory and the
/// variables of that command alone. In shells other than bash the dump puts
/// back what they hide.
pub fn last(value: &Value, cwd: &[u8], env: &HashMap<String, String>) -> Vec<u8> {
    let mut text = match value.kind {
        Kind::Bash => b"exec 103<&-\n".to_vec(),
        Kind::Posix => b"exec 7<&-\n".to_vec(),
    };
    // The shell may have waited while its directory went away.
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

/// What is known of a command when its shell has dumped.
#[derive(Debug)]
pub struct Before {
    /// The value that the shell began with.
    pub value: Value,
    /// The variables that were hidden for the time of the command.
    pub hidden: Vec<String>,
    /// The shell's environment.
    pub baseline: Arc<Baseline>,
}

/// The value in what a shell dumped; none where it is not whole.
pub fn parse(dumped: &[u8], mark: &str, before: &Before) -> Option<Value> {
    let kind = before.value.kind;
    let line = match kind {
        Kind::Bash => format!("declare -- __hutch_m=\"{mark}\"\n"),
        Kind::Posix => format!("{mark}\n"),
    };
    let parts = split(dumped, line.as_bytes());
    let value = match (kind, parts.as_slice()) {
        // The mark is a variable itself, and so twice in the list of them. The
        // end mark has nothing behind it.
        (Kind::Bash, &[_, functions, traps, mask, cwd, first, second, aliases, []]) => {
            let declared = [first, second].concat();
            let mut value = Value::new(kind, cwd.strip_suffix(b"\n")?.to_vec());
            let old = &before.value.variables;
            value.variables = declared::keep(&declared, old, &before.hidden, &before.baseline)?;
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

/// What is restored right before the command; nothing where all is usual.
fn rest(switches: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let parts = parts.concat();
    if switches.is_empty() && parts.is_empty() {
        return Vec::new();
    }
    let (head, tail) = (b"shopt -s expand_aliases\n{\n", b"} >/dev/null 2>&1\n");
    [switches, head, &parts, tail].concat()
}

/// The options of a shell, as commands for those that are not as usual.
struct Options {
    switches: Vec<u8>,
    set: Vec<u8>,
    trace: Vec<u8>,
}

impl Options {
    /// Out of the variables that a dump has put them into.
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
