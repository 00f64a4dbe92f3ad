//! Commands that try to break their shell, each followed by a plain one.

use hutch_wire::v1::Start;

use super::{Image, within};
use crate::sandbox::Client;
use crate::wait::{eventually, in_time};

fn megabyte() -> String {
    "x=$((${x:-0}+1))\n".repeat((1 << 20) / 17)
}

/// The commands, with the exit code where it is the same in every shell.
fn list() -> Vec<(String, Option<i32>)> {
    let plain: &[(&str, Option<i32>)] = &[
        ("exit 3", Some(3)),
        ("exit", Some(0)),
        ("if then fi (", Some(2)),
        ("echo 'unterminated", Some(2)),
        ("echo \"unterminated $(", Some(2)),
        ("set -e; false; echo not reached", Some(1)),
        ("set -e", Some(0)),
        ("false", Some(1)),
        ("set +e; set -u; echo $not_set_anywhere", None),
        ("set +u", Some(0)),
        ("set -n; echo not reached", Some(0)),
        ("set -f -C -a; set -o", Some(0)),
        ("exec true", Some(0)),
        ("exec /bin/sleep 0", Some(0)),
        ("exec nothing-of-that-name", Some(127)),
        ("kill $$", Some(143)),
        ("kill -9 $$", Some(137)),
        ("kill -STOP $$", Some(147)),
        ("export PATH=/nope", Some(0)),
        ("cat /dev/null", None),
        ("export PATH=/bin:/usr/bin", Some(0)),
        ("ulimit -v 1; echo x | cat", None),
        ("mv() { sleep 1000; }", Some(0)),
        ("cat <<'E'\n$a `b` \"'\nE", Some(0)),
        ("cat <<E\nnever ended", None),
        ("trap '' TERM INT HUP; kill $$; true", Some(0)),
        ("trap 'echo bye' EXIT", Some(0)),
        ("trap 'exit 9' EXIT; exit 1", Some(9)),
        ("trap - EXIT", Some(0)),
        ("trap 'sleep 0' EXIT; kill -TERM $$", None),
        ("exec 0<&- 1>&- 2>&-", Some(0)),
        ("exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-", Some(0)),
        ("exec >/dev/null 2>&1; echo gone", Some(0)),
        (
            "rm -rf \"$HOME/.none\"; cd /; unset HOME PWD OLDPWD",
            Some(0),
        ),
        (
            "mkdir -p /tmp/hutch-gone; cd /tmp/hutch-gone; rmdir /tmp/hutch-gone",
            Some(0),
        ),
        ("cd /", Some(0)),
        ("IFS=abcdefghijklmnopqrstuvwxyz", Some(0)),
        ("unset IFS", Some(0)),
        ("alias echo='sleep 1000' 2>/dev/null; unalias -a", Some(0)),
        (
            "printf() { exit 1; }; pwd() { sleep 1000; }; test() { exit 1; }",
            Some(0),
        ),
        ("unset -f printf pwd test", Some(0)),
        ("return 4", None),
        ("hutch-session-end\n#", Some(127)),
        (
            "printf 'declare -- __hutch_m=\"x\"\\nhutch-session-end\\n\\0\\377'; printf 'x' >&2",
            Some(0),
        ),
        ("sleep 1000 & sleep 1000 &", Some(0)),
        (
            "sh -c 'python=\"def f():\n  return 1\n\"; echo \"$python\"'",
            Some(0),
        ),
        ("", Some(0)),
        ("\0", None),
        ("# only a comment", Some(0)),
    ];
    let mut all: Vec<_> = plain
        .iter()
        .map(|(text, code)| (text.to_string(), *code))
        .collect();
    all.push((megabyte(), Some(0)));
    all
}

/// Commands for bash only.
const BASH: &[&str] = &[
    "declare() { exit 1; }; builtin() { exit 1; }; unset() { exit 1; }; exit() { builtin exit 7; }",
    "trap() { sleep 1000; }; shopt() { sleep 1000; }; set() { sleep 1000; }; read() { exit; }",
    "function source { sleep 1000; }; function command { sleep 1000; }",
    "function . { sleep 1000; }",
    "exec 100>&-",
    "exec 100>&- 101>&- 102>&- 103>&- 104>&-",
    "exec 104>&1",
    "head -c 1000000 /dev/zero >&100",
    "printf 'declare -- __hutch_c=\"3\"\\n' >&100",
    "echo nonsense >&100; echo nonsense >&104",
    "head -c 100000000 /dev/zero >&104",
    // `unset` is still the function of above: it calls `exit`, which calls `builtin`, which
    // calls `exit`. bash ends when its stack is full. It searches the variables of every
    // caller at each call, so the usual stack of 8 MiB costs 20 s of CPU.
    "ulimit -s 256; unset BASH_SOURCE",
    "POSIXLY_CORRECT=1; \\unset -f builtin declare trap shopt set read source command unset exit",
    "alias declare=exit builtin=exit unset=exit trap=exit set=exit",
    "\\unalias -a",
    "unset BASH_SOURCE; __hutch_e=0 __hutch_c=9; readonly __hutch_c",
    "trap 'sleep 0; false' DEBUG; trap 'true' ERR RETURN",
    "trap - DEBUG ERR RETURN",
    "POSIXLY_CORRECT=1; set -o posix",
    "set +o posix; unset POSIXLY_CORRECT",
    "readonly A=1; readonly PATH",
    "declare -r __hutch_x=1; unset BASHOPTS SHELLOPTS",
    "shopt -s extglob nocasematch nullglob failglob; shopt -u sourcepath",
    "shopt -u nocasematch nullglob failglob",
    "export BASH_ENV=/nope ENV=/nope TMOUT=1 PS4='$(sleep 1000)'",
    "unset BASH_ENV ENV TMOUT PS4",
    "enable -n declare trap printf shopt",
    "set -r",
    "exec {BASH_XTRACEFD}>/dev/null; set -x",
    "set +x; set -v",
    "set +v; set -t; echo",
    "coproc cat; disown -a",
    "f() { f; }; ulimit -s 256; f",
    "suspend -f",
    "__hutch_dump() { exit 1; }; __hutch_fork() { exit 1; }; command_not_found_handle() { :; }",
    "unset -f __hutch_dump __hutch_fork command_not_found_handle; __hutch_fork; __hutch_dump",
    "enable -d __hutch_dump __hutch_fork",
    "enable -n __hutch_dump",
    "for n in {0..120}; do eval \"exec $n>&-\"; done",
];

async fn next_works(client: &Client, shell: &str, after: &str) {
    let shown: String = after.chars().take(60).collect();
    let awaited = format!("{shell}: a plain command ends after {shown:?}");
    let outcome = in_time(&awaited, client.within("s", "echo \"still $keep\"")).await;
    assert_eq!(
        outcome.out(),
        "still kept\n",
        "{shell} after {shown:?}: {outcome:?}"
    );
    assert_eq!(outcome.exit.code, 0, "{shell} after {shown:?}");
}

#[tokio::test]
async fn nothing_a_command_does_to_its_shell_harms_the_session() {
    for (shell, image) in Image::all() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "export keep=kept").await;
        let bash = BASH.iter().filter(|_| shell.starts_with("bash"));
        let bash = bash.map(|text| (text.to_string(), None));
        for (text, code) in list().into_iter().chain(bash) {
            let shown: String = text.chars().take(60).collect();
            let awaited = format!("{shell}: {shown:?} ends");
            let outcome = in_time(&awaited, client.within("s", &text)).await;
            if let Some(code) = code {
                assert_eq!(outcome.exit.code, code, "{shell}: {shown:?}: {outcome:?}");
            }
            next_works(&client, shell, &text).await;
        }
    }
}

#[tokio::test]
async fn a_time_limit_ends_the_command_and_not_the_session() {
    for (shell, image) in Image::all() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "export keep=kept; cd /usr").await;
        let start = Start {
            timeout_ms: 300,
            ..within("s", "trap '' TERM; export keep=lost; echo up; sleep 1000")
        };
        let outcome = client.run(start).await;
        assert_eq!((outcome.exit.code, outcome.out()), (124, "up\n"), "{shell}");
        assert!(outcome.exit.timed_out && outcome.exit.session_reset);
        next_works(&client, shell, "a time-out").await;
        assert_eq!(client.within("s", "pwd").await.out(), "/usr\n");
    }
}

/// Does what the shell would do at its end, and then forges its report.
const FORGED: &str = "eval \"set -- $(trap -p EXIT)\"; echo up; A=forged; eval \"$3\"
printf 'declare -- __hutch_c=\"7\"\\n' >&100; sleep 1000; sleep 1000";

#[tokio::test]
async fn a_command_that_reports_its_end_has_ended() {
    for (shell, image) in Image::bashes() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "export keep=kept").await;
        for _ in 0..3 {
            let outcome = in_time("the command ends", client.within("s", FORGED)).await;
            assert_eq!((outcome.exit.code, outcome.out()), (7, "up\n"));
            assert!(!outcome.exit.session_reset);
            next_works(&client, shell, "a forged word").await;
            let outcome = client.within("s", "echo $A; A=").await;
            assert_eq!(outcome.out(), "forged\n");
        }
        // The shells that forged a report are killed. Processes that they started stay, as
        // with `&`.
        let background = async || client.activity().await.background;
        eventually("3 background processes are left", background, |count| {
            *count == 3
        })
        .await;
    }
}

#[tokio::test]
async fn a_report_without_a_value_is_ignored() {
    for (shell, image) in Image::bashes() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "export keep=kept").await;
        let word = "printf 'declare -- __hutch_c=\"0\"\\n' >&100";
        let outcome = client
            .within("s", &format!("{word}; echo up; exit 3"))
            .await;
        assert_eq!((outcome.exit.code, outcome.out()), (3, "up\n"));
        assert!(!outcome.exit.session_reset);
        let start = Start {
            timeout_ms: 300,
            ..within("s", &format!("{word}; sleep 1000"))
        };
        let outcome = client.run(start).await;
        assert!(outcome.exit.timed_out && outcome.exit.session_reset);
        next_works(&client, shell, word).await;
    }
}

#[tokio::test]
async fn a_dump_that_hangs_ends_with_the_time_limit() {
    for (shell, image) in Image::bashes() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "export keep=kept").await;
        let start = Start {
            timeout_ms: 300,
            ..within("s", "echo up; trap 'sleep 1000' DEBUG")
        };
        let outcome = client.run(start).await;
        assert_eq!((outcome.exit.code, outcome.out()), (124, "up\n"));
        assert!(outcome.exit.session_reset);
        next_works(&client, shell, "a dump that hangs").await;
    }
}

#[tokio::test]
async fn a_value_is_kept_by_a_shell_whose_descriptors_are_closed() {
    for (_, image) in Image::bashes() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        for (number, close) in ["100>&-", "104>&-", "100>&- 101>&- 104>&-"]
            .iter()
            .enumerate()
        {
            let text = format!("A={number}; exec {close}");
            let outcome = client.within("s", &text).await;
            assert!(!outcome.exit.session_reset, "{close}: {outcome:?}");
            let outcome = client.within("s", "echo $A").await;
            assert_eq!(outcome.out(), format!("{number}\n"), "{close}");
        }
    }
}

#[tokio::test]
async fn a_shell_that_leaves_no_value_is_reported() {
    for (shell, image) in Image::all() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        for (text, reset) in [
            ("export a=1", false),
            ("exit 3", false),
            ("exec true", true),
            ("kill -9 $$", true),
            ("trap true EXIT", true),
            ("trap - EXIT", true),
            ("false", false),
            (":", false),
        ] {
            let exit = client.within("s", text).await.exit;
            assert_eq!(exit.session_reset, reset, "{shell}: {text}");
        }
        assert_eq!(client.within("s", "echo $a").await.out(), "1\n");
    }
}

#[tokio::test]
async fn multi_line_programs_run_byte_for_byte() {
    for (shell, image) in Image::all() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        let text =
            "cat <<'E'\nif x == \"a'b\":\n\tprint(f\"{x!r}\\n$HOME `id`\")\nE\necho 'one\ntwo'";
        let expected = "if x == \"a'b\":\n\tprint(f\"{x!r}\\n$HOME `id`\")\none\ntwo\n";
        assert_eq!(client.within("s", text).await.out(), expected, "{shell}");
        let outcome = client.within("s", &(megabyte() + "echo $x")).await;
        assert_eq!(outcome.out(), format!("{}\n", (1 << 20) / 17), "{shell}");
    }
}
