//! Commands that run in copies of one shell, the fork server (`bash/fork_server.c`).

use std::collections::HashSet;

use hutch_wire::v1::Start;

use crate::sandbox::{Client, Outcome, Sandbox, env, script};
use crate::wait::{eventually, in_time};

/// Succeeds in a copy, and fails in a shell that was started.
pub const IS_COPY: &str = "[[ $(</proc/$$/maps) = *memfd:hutch-bash* ]]";

/// Prints the pid of the fork server. It holds the agent's control socket. A new copy also
/// holds it for a moment, but is younger.
const SERVER: &str =
    "for p in /proc/[0-9]*; do [[ -e $p/fd/105 ]] && echo ${p#/proc/}; done | sort -n | head -n 1";

/// Connects to a sandbox, and waits until its commands run in copies.
pub async fn with_copies(sandbox: &Sandbox) -> Client {
    let client = sandbox.connect().await;
    copies_again(&client).await;
    client
}

async fn copies_again(client: &Client) {
    let code = async || client.sh(IS_COPY).await.exit.code;
    eventually("commands run in copies of a shell", code, |code| *code == 0).await;
}

/// Runs `text` in a shell that was started: only such a shell can have its own environment.
async fn started(client: &Client, text: &str) -> Outcome {
    let start = Start {
        env: env(&[("BASH_ARGV0", "bash")]),
        ..script("started", text)
    };
    client.run(start).await
}

#[tokio::test]
async fn a_copy_is_no_different_from_a_shell_that_was_started() {
    let sandbox = Sandbox::new().await;
    let client = with_copies(&sandbox).await;
    let text = "own=$$; [[ $$ = $BASHPID ]] && echo own pid; echo $PPID $0 $# $- $SHLVL $BASH_SUBSHELL\n\
        read -r _ _ _ parent group session _ < /proc/$$/stat\n\
        echo $parent $((group == $$)) $((session == $$)) $((SECONDS < 5))\n\
        (echo $((own == $$)) $((own == BASHPID)) $BASH_SUBSHELL)\n\
        set -m; sleep 0 & wait; set +m; jobs; trap -p; umask; ulimit -a; pwd; times | wc -l\n\
        grep -E '^(Uid|Gid|Groups|Sig|Shd|Cap|NoNewPrivs|Seccomp|Threads)' /proc/$$/status\n\
        ls /proc/$$/fd; enable -a; shopt; set -o; alias; declare -F; echo \"$BASH_EXECUTION_STRING\"\n\
        unset BASH_ARGV0; declare -p | cut -d= -f1; kill -TERM $$; echo lives";
    let (copied, started) = (client.sh(text).await, started(&client, text).await);
    assert_eq!(copied.exit.signal, libc::SIGTERM, "{}", copied.err());
    assert!(
        copied.out().starts_with("own pid\n1 bash 0"),
        "{}",
        copied.out()
    );
    assert_eq!(copied.out(), started.out());
    assert_eq!(copied.err(), started.err());
}

#[tokio::test]
async fn copies_have_their_own_random_numbers() {
    let sandbox = Sandbox::new().await;
    let client = with_copies(&sandbox).await;
    let mut seen = HashSet::new();
    for _ in 0..20 {
        seen.insert(client.sh("echo $RANDOM$RANDOM$RANDOM").await.stdout);
    }
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn a_lost_fork_server_delays_no_command() {
    let sandbox = Sandbox::new().await;
    let client = with_copies(&sandbox).await;
    for signal in ["KILL", "STOP", "SEGV"] {
        let text = format!("p=$({SERVER}); kill -{signal} $p && echo $p");
        let server = client.sh(&text).await;
        assert!(server.out().trim().parse::<u32>().is_ok(), "{server:?}");
        let many = async {
            for _ in 0..20 {
                assert_eq!(client.sh("echo here").await.out(), "here\n");
                assert_eq!(client.within("s", "echo here").await.out(), "here\n");
            }
        };
        in_time(&format!("40 commands run after SIG{signal}"), many).await;
        copies_again(&client).await;
        let gone = format!("kill -0 {} 2>/dev/null && echo there", server.out().trim());
        assert_eq!(client.sh(&gone).await.out(), "");
    }
}

#[tokio::test]
async fn the_fork_server_is_no_activity() {
    let sandbox = Sandbox::new().await;
    let client = with_copies(&sandbox).await;
    let activity = client.activity().await;
    assert_eq!((activity.running, activity.background), (0, 0));
}
