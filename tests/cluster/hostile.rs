//! Commands that try to break the shell of their session. The next command works within two
//! seconds, and finds directory and environment unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::sandbox::manifest;
use crate::support::{Tenant, World};
use hutch_core::names;

/// The contract's limit for the command after a hostile one.
const NEXT_COMMAND_LIMIT: Duration = Duration::from_secs(2);

/// Commands for any shell, with the exit code where all shells agree on it.
const ANY: &[(&str, Option<i64>)] = &[
    ("exit 3", Some(3)),
    ("exit", Some(0)),
    ("if then fi (", Some(2)),
    ("echo 'unterminated", Some(2)),
    ("echo \"unterminated $(", Some(2)),
    ("set -e; false; echo not reached", Some(1)),
    ("set -u; echo $not_set_anywhere", None),
    ("set -n; echo not reached", Some(0)),
    ("set -e -f -C -a -v", Some(0)),
    ("exec true", Some(0)),
    ("exec nothing-of-that-name", Some(127)),
    ("exec sleep 0", Some(0)),
    ("kill $$", Some(143)),
    ("kill -KILL $$", Some(137)),
    ("kill -STOP $$", None),
    ("export PATH=/nope", Some(0)),
    ("unset PATH HOME PWD OLDPWD IFS", None),
    ("ulimit -v 1", None),
    ("ulimit -v 1; echo x | cat", None),
    ("ulimit -n 3; ulimit -f 0; true", None),
    ("mv() { sleep 600; }", Some(0)),
    ("printf() { exit 1; }; test() { sleep 600; }", Some(0)),
    ("cat() { sleep 600; }; trap() { sleep 600; }", None),
    ("cat <<E\nnever ended", None),
    ("trap '' TERM INT HUP; kill $$; true", Some(0)),
    ("trap 'echo bye' EXIT", Some(0)),
    ("trap 'exit 9' EXIT; exit 1", Some(9)),
    ("trap 'exit 0' TERM; kill -TERM $$; sleep 0", None),
    ("exec 0<&- 1>&- 2>&-", Some(0)),
    ("exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-", Some(0)),
    ("exec >/dev/null 2>&1; echo gone", Some(0)),
    ("IFS=abcdefghijklmnopqrstuvwxyz/", Some(0)),
    ("return 4", None),
    ("hutch-session-end\n#", Some(127)),
    ("sleep 600 & sleep 600 &", Some(0)),
    ("\0", None),
    ("# only a comment", Some(0)),
    ("'\n", Some(2)),
];

/// Commands for bash only.
const BASH: &[(&str, Option<i64>)] = &[
    (
        "declare() { exit 1; }; builtin() { exit 1; }; unset() { exit 1; }",
        None,
    ),
    ("exit() { builtin exit 7; }; set() { sleep 600; }", None),
    (
        "function source { sleep 600; }; function command { sleep 600; }",
        None,
    ),
    (
        "alias declare=exit builtin=exit unset=exit trap=exit set=exit",
        None,
    ),
    ("trap 'sleep 0; false' DEBUG; trap 'true' ERR RETURN", None),
    ("POSIXLY_CORRECT=1; set -o posix", None),
    (
        "shopt -s extglob nocasematch nullglob failglob; shopt -u sourcepath",
        None,
    ),
    (
        "export BASH_ENV=/nope ENV=/nope TMOUT=1 PS4='$(sleep 600)'",
        None,
    ),
    ("enable -n declare trap printf shopt", None),
    ("exec {BASH_XTRACEFD}>/dev/null; set -x", None),
    ("set -r", None),
    ("set -t; echo", None),
    ("readonly HOME PATH A=1", None),
    ("coproc cat; disown -a", None),
    ("f() { f; }; ulimit -s 256; f", None),
    ("suspend -f", None),
];

/// Commands whose output is compared byte for byte.
const PRINTED: &[(&str, &str)] = &[
    (
        "cat <<'END'\n$HOME `x` \"y\" 'z' \\n\n\nEND",
        "$HOME `x` \"y\" 'z' \\n\n",
    ),
    ("cat <<END\n$((1+2))\nEND", "3"),
    (
        "printf '%s\\n' 'hutch-session-end' 'declare -- m=\"x\"' 'exit 0'; echo on",
        "hutch-session-end\ndeclare -- m=\"x\"\nexit 0\non",
    ),
    ("echo 'one\n\ttwo'", "one\n\ttwo"),
];

const PYTHON: &str = "python3 -c '
def f(x):
    return f\"{x!r}\\t\\\"quoted\\\" $HOME `id`\"

print(f(\"a\"))
'
python3 - <<\"PY\"
print(\"\"\"it'\"'\"'s
over\"\"\")
PY";

/// A session with state that could be lost.
async fn prepared(tenant: &Tenant, session: &str) {
    // Every container has this directory, whatever its image.
    let command = "cd /proc; export KEEP='kept  $it'";
    tenant.stdout_in(session, command).await;
}

async fn next_works(tenant: &Tenant, session: &str, after: &str) {
    let shown: String = after.chars().take(60).collect();
    // The command uses only the shell, because PATH may be broken now.
    let next = tenant.exec_in(session, "pwd; echo \"$KEEP\"");
    let answer = tokio::time::timeout(NEXT_COMMAND_LIMIT, next).await;
    let answer = answer.unwrap_or_else(|_| panic!("nothing works after {shown:?}"));
    let result = &answer.body["data"]["result"];
    assert_eq!(result["exitCode"], 0, "after {shown:?}: {answer:#?}");
    let stdout = &result["stdout"];
    assert_eq!(stdout, "/proc\nkept  $it", "after {shown:?}: {answer:#?}");
}

/// Runs each command in its own session, and then a plain one.
async fn each<'a>(tenant: &Tenant, commands: impl Iterator<Item = &'a (&'a str, Option<i64>)>) {
    for (number, (command, code)) in commands.enumerate() {
        let session = format!("hostile {number}");
        prepared(tenant, &session).await;
        let result = tenant.run_in(&session, command).await;
        if let Some(code) = code {
            assert_eq!(result["exitCode"], *code, "{command:?}: {result:#}");
        }
        next_works(tenant, &session, command).await;
    }
    for (command, stdout) in PRINTED {
        prepared(tenant, "printed").await;
        assert_eq!(tenant.stdout_in("printed", command).await, *stdout);
        next_works(tenant, "printed", command).await;
    }
    let long = format!("{}echo $x", "x=$((${x:-0}+1))\n".repeat((1 << 20) / 17));
    prepared(tenant, "long").await;
    let counted = tenant.stdout_in("long", &long).await;
    assert_eq!(counted, ((1 << 20) / 17).to_string());
    next_works(tenant, "long", &long).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_command_does_to_bash_harms_its_session() {
    let world = World::new("hostile").await;
    let (_hutch, tenant) = world.with_tenant("bash", &[]).await;
    assert_eq!(tenant.stdout("echo ${BASH_VERSION%%.*}").await, "5");
    each(&tenant, ANY.iter().chain(BASH)).await;
    prepared(&tenant, "python").await;
    let printed = "'a'\t\"quoted\" $HOME `id`\nit'\"'\"'s\nover";
    assert_eq!(tenant.stdout_in("python", PYTHON).await, printed);
    next_works(&tenant, "python", PYTHON).await;

    // One session runs all of them, one after another.
    prepared(&tenant, "one").await;
    for (command, _) in ANY.iter().filter(|(command, _)| !command.contains("PATH")) {
        tenant.run_in("one", command).await;
        let restore = "\\set +efuvCa; \\unset -f mv printf test cat trap; IFS=$' \\t\\n'";
        tenant.run_in("one", restore).await;
        next_works(&tenant, "one", command).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_command_does_to_a_plain_sh_harms_its_session() {
    let world = World::new("hostile-sh").await;
    let (_hutch, tenant) = world.with_tenant("busybox", &[]).await;
    let mut images = vec![("busybox", "busybox:1".to_owned())];
    if world.environment.cluster.is_some() {
        images.push(("dash", dash(&world)));
    }
    for (shell, image) in images {
        let tenant = tenant.about(shell);
        let spec = json!({ "image": image });
        world
            .apply(&manifest(&names::sandbox(shell), spec))
            .unwrap();
        assert_eq!(tenant.stdout("echo \"[$BASH_VERSION]\"").await, "[]");
        each(&tenant, ANY.iter()).await;
    }
}

/// An image whose only shell is dash, with the programs that the commands above call.
fn dash(world: &World) -> String {
    let image = "hutch.dev/dash:test";
    let listed = Command::new("ldd").arg("/bin/dash").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    let mut files = vec![("/bin/sh".to_owned(), PathBuf::from("/bin/dash"))];
    files.extend(libraries.map(|path| (path.to_owned(), PathBuf::from(path))));
    for applet in ["cat", "true", "sleep", "seq"] {
        files.push((format!("/bin/{applet}"), "/bin/busybox".into()));
    }
    let files: Vec<(&str, &Path)> = files.iter().map(|(to, from)| (&**to, &**from)).collect();
    let cluster = world.environment.require_test_cluster();
    tokio::task::block_in_place(|| cluster.load_image(image, &files)).unwrap();
    image.to_owned()
}
