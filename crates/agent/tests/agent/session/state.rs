//! The state that a session keeps, and for how long.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hutch_wire::v1::Start;

use super::{Image, within};
use crate::sandbox::{Sandbox, env};

#[tokio::test]
async fn directory_and_exports_are_kept_by_every_shell() {
    for (shell, image) in Image::all() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        let outcome = client
            .within(
                "s",
                "cd /usr; export A='it'\"'\"'s\n ü $x `y` \\'; unset HOME",
            )
            .await;
        assert_eq!((outcome.exit.code, outcome.err()), (0, ""), "{shell}");
        assert!(outcome.exit.session_created && !outcome.exit.session_reset);
        let outcome = client
            .within(
                "s",
                "pwd; printf '%s|' \"$A\" \"${HOME-none}\"; env | grep -c ^A= 2>/dev/null || true",
            )
            .await;
        assert!(
            outcome.out().starts_with("/usr\nit's\n ü $x `y` \\|none|"),
            "{shell}: {outcome:?}"
        );
        assert!(!outcome.exit.session_created);
        let other = client.within("t", "echo ${A-none}").await;
        assert_eq!(other.out(), "none\n", "{shell}");
    }
}

const REMEMBER: &str =
    "plain=1; export out=2; list=(a 'b c' $'d\\ne'); declare -A map=([k k]='v v')
declare -i number=5; f() { echo \"f $1\"; }; export -f f; alias ll='echo aliased'; cd /usr
shopt -s nullglob extglob; set -o pipefail -u; umask 027; trap 'echo got' USR1; IFS=:
g() { [[ $1 == @(a|b) ]] && echo yes; }";
const RECALL: &str = "printf '%s,' $plain $out \"${list[@]}\" \"${map[k k]}\" $((number += 1))
f x; bash -c 'f y'; ll z; pwd; echo /no*such; set -o | grep pipefail; umask; kill -USR1 $$; g a
echo \"$IFS\"; echo $-";

fn check(out: &str) {
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "1,2,a,b c,d", "{out}");
    assert_eq!(lines[1], "e,v v,6,f x");
    assert_eq!(&lines[2..5], ["f y", "aliased z", "/usr"]);
    assert_eq!(lines[5], "");
    assert!(lines[6].ends_with("on"), "{out}");
    assert_eq!(&lines[7..11], ["0027", "got", "yes", ":"]);
    assert!(lines[11].contains('u'), "{out}");
}

#[tokio::test]
async fn bash_keeps_everything() {
    for (_, image) in Image::bashes() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        let outcome = client.within("s", REMEMBER).await;
        assert_eq!((outcome.exit.code, outcome.err()), (0, ""));
        for _ in 0..3 {
            let outcome = client.within("s", RECALL).await;
            let number = outcome
                .out()
                .replacen(",7,", ",6,", 1)
                .replacen(",8,", ",6,", 1);
            check(&number);
            assert_eq!(outcome.err(), "");
        }
    }
}

#[tokio::test]
async fn a_session_outlives_its_agent() {
    let state = tempfile::tempdir().unwrap();
    {
        let sandbox = Sandbox::with_state(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s/../ü\n", REMEMBER).await;
        client.within("other", "export other=1; cd /tmp").await;
        client.set("unused", &[("SET", "it's")]).await;
    }
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    let outcome = client.within("s/../ü\n", RECALL).await;
    check(outcome.out());
    assert!(!outcome.exit.session_created && !outcome.exit.session_reset);
    let outcome = client.within("other", "pwd; echo $other").await;
    assert_eq!(outcome.out(), "/tmp\n1\n");
    assert_eq!(client.within("unused", "echo $SET").await.out(), "it's\n");
}

#[tokio::test]
async fn other_shells_outlive_their_agent_too() {
    for (shell, image) in Image::all() {
        let state = tempfile::tempdir().unwrap();
        {
            let sandbox = image.sandbox(state.path()).await;
            let client = sandbox.connect().await;
            client.within("s", "cd /usr; export A=1").await;
        }
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        let outcome = client.within("s", "pwd; echo $A").await;
        assert_eq!(outcome.out(), "/usr\n1\n", "{shell}");
    }
}

#[tokio::test]
async fn directory_and_environment_of_one_command_are_not_kept() {
    for (shell, image) in Image::all() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "cd /usr; export A=session").await;
        let start = Start {
            cwd: "/proc".into(),
            env: env(&[("A", "it's"), ("B", "command")]),
            ..within("s", "pwd; echo $A $B; export A=changed C=kept; cd /tmp")
        };
        let outcome = client.run(start).await;
        assert_eq!(
            outcome.out(),
            "/proc\nit's command\n",
            "{shell}: {outcome:?}"
        );
        let outcome = client.within("s", "pwd; echo $A ${B-none} $C").await;
        assert_eq!(outcome.out(), "/usr\nsession none kept\n", "{shell}");
        let start = Start {
            cwd: "/nope".into(),
            ..within("s", "echo ran")
        };
        let outcome = client.run(start).await;
        assert_eq!((outcome.exit.code, outcome.out()), (1, ""), "{shell}");
        assert_eq!(outcome.err(), "cd: /nope: No such file or directory\n");
        assert!(!outcome.exit.session_reset);
    }
}

#[tokio::test]
async fn later_environments_win() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    assert!(client.set("s", &[("HOME", "/session"), ("X", "1")]).await);
    assert!(!client.set("s", &[("X", "2")]).await);
    let read = "echo $HOME $X ${PATH:+path}";
    assert_eq!(client.within("s", read).await.out(), "/session 2 path\n");
    let start = Start {
        env: env(&[("HOME", "/command")]),
        ..within("s", read)
    };
    assert_eq!(client.run(start).await.out(), "/command 2 path\n");
    assert!(!client.set("s", &[("X", "3")]).await);
    assert_eq!(client.within("s", read).await.out(), "/session 3 path\n");
}

fn only_directory(state: &Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(state.join("sessions")).unwrap();
    let directory = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    directory
}

#[tokio::test]
async fn a_value_that_is_not_whole_is_not_taken() {
    for cut in [0, 10, 200] {
        let state = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::with_state(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "export A=1; cd /usr").await;
        let directory = only_directory(state.path());
        let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop((client, sandbox));
        let file = directory.join("value");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len().min(cut)]).unwrap();
        let sandbox = Sandbox::with_state(state.path()).await;
        let client = sandbox.connect().await;
        let outcome = client.within("s", "echo ${A-none}").await;
        assert_eq!(outcome.out(), "none\n");
        assert!(outcome.exit.session_created);
    }
}

#[tokio::test]
async fn commands_that_harm_the_state_directory_harm_only_its_memory() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    let root = state.path().display();
    for harm in [
        format!("rm -rf {root}/sessions"),
        format!("rm -rf {root}"),
        format!("for f in {root}/sessions/*; do rm -rf $f; mkfifo $f; done"),
        format!("for f in {root}/sessions/*; do rm -rf $f; ln -s / $f; done"),
        format!("for f in {root}/sessions/*; do rm $f/value; mkfifo $f/value; done"),
        format!(
            "for f in {root}/sessions/*; do rm -f $f/value; head -c 9000000 /dev/zero >$f/value; done"
        ),
    ] {
        client.within("other", &harm).await;
        assert_eq!(
            client.within("s", "echo here; export A=1").await.out(),
            "here\n",
            "{harm}"
        );
        let outcome = client.within("s", "echo $A").await;
        assert_eq!(outcome.out(), "1\n", "after {harm}");
    }
}

#[tokio::test]
async fn without_a_state_directory_sessions_live_as_long_as_the_agent() {
    let sandbox = Sandbox::with_state(Path::new("/proc/nothing")).await;
    let client = sandbox.connect().await;
    client.within("s", "export A=1; cd /usr").await;
    assert_eq!(client.within("s", "echo $A; pwd").await.out(), "1\n/usr\n");
    // No other test uses this directory of the machine.
    let outcome = client
        .sh("rm -rf /dev/shm/.hutch-sessions-*; echo done")
        .await;
    assert_eq!(outcome.out(), "done\n");
}

#[tokio::test]
async fn a_value_past_its_bound_is_refused_and_the_old_one_kept() {
    for (_, image) in Image::bashes() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "A=1").await;
        let outcome = client
            .within("s", "A=$(head -c 3000000 /dev/zero | tr '\\0' x)")
            .await;
        assert!(outcome.exit.session_reset, "{outcome:?}");
        let outcome = client
            .within("s", "B=$(head -c 1200000 /dev/zero | tr '\\0' x)")
            .await;
        assert!(outcome.err().contains("stays as it was"), "{outcome:?}");
        assert_eq!(client.within("s", "echo $A$B").await.out(), "1\n");
    }
}

#[tokio::test]
async fn a_directory_that_is_gone_gives_way_to_the_nearest() {
    for (shell, image) in Image::all() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        let directory = format!("/tmp/gone-{}-{shell}", std::process::id());
        let text = format!("mkdir -p {directory}/a/b; cd {directory}/a/b");
        client.within("s", &text).await;
        client.within("t", &format!("rm -rf {directory}/a")).await;
        let outcome = client.within("s", "pwd").await;
        assert_eq!(outcome.out(), format!("{directory}\n"), "{shell}");
        client.within("t", &format!("rm -rf {directory}")).await;
        assert_eq!(client.within("s", "pwd").await.out(), "/tmp\n", "{shell}");
    }
}

#[tokio::test]
async fn tracing_options_print_no_code_of_the_agent() {
    for (_, image) in Image::bashes() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        let outcome = client.within("s", "set -x; f() { :; }").await;
        assert_eq!(outcome.err(), "");
        for _ in 0..2 {
            let outcome = client.within("s", "echo one").await;
            assert_eq!((outcome.out(), outcome.err()), ("one\n", "++ echo one\n"));
        }
        let outcome = client
            .within("s", "set +x; trap 'echo at $LINENO' DEBUG")
            .await;
        assert_eq!(outcome.err(), "++ set +x\n");
        let outcome = client.within("s", "echo one\necho two").await;
        assert_eq!(outcome.out(), "one\ntwo\n");
    }
}

#[tokio::test]
async fn messages_of_the_shell_have_the_lines_of_the_command() {
    for (shell, image) in Image::all() {
        let state = tempfile::tempdir().unwrap();
        let sandbox = image.sandbox(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "A=1").await;
        let outcome = client.within("s", "\n\nno-such-program").await;
        let line = if outcome.err().contains("line ") {
            "line 3:"
        } else {
            ": 3: "
        };
        assert!(outcome.err().contains(line), "{shell}: {outcome:?}");
    }
}
