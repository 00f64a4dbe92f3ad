//! Programs, scripts, directories, environments and input of commands.

use hutch_wire::v1::exec_input::Input;
use hutch_wire::v1::{HelloRequest, Start};
use tonic::Code;

use crate::sandbox::{Sandbox, argv, env, script};

#[tokio::test]
async fn hello_returns_protocol_and_instance() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let request = HelloRequest {
        protocol: hutch_wire::PROTOCOL,
    };
    let reply = client
        .agent
        .clone()
        .hello(request)
        .await
        .unwrap()
        .into_inner();
    assert!(hutch_wire::compatible(reply.protocol));
    assert_eq!(reply.instance.len(), 32);
}

#[tokio::test]
async fn a_program_gets_its_arguments_as_they_are() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let outcome = client
        .run(argv(
            "a",
            &["printf", "[%s]", "", "a b", "$HOME", "*", "ü\n"],
        ))
        .await;
    assert_eq!(outcome.out(), "[][a b][$HOME][*][ü\n]");
    assert_eq!(outcome.exit.code, 0);
}

#[tokio::test]
async fn a_script_runs_as_it_is() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let text =
        "cat <<'E'\n$x `y` \"'\nE\nfor i in 1 2; do echo $i; done; echo ${BASH_VERSION:+bash}";
    assert_eq!(client.sh(text).await.out(), "$x `y` \"'\n1\n2\nbash\n");
    assert_eq!(client.sh("").await.exit.code, 0);
    let dashed = client.sh("-x() { echo dashed; }; -x").await;
    assert_eq!(dashed.out(), "dashed\n");
}

#[tokio::test]
async fn a_script_of_a_megabyte_runs_whole() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let line = "x=$((x+1)); [ \"$0\" != nothing ] || exit 9\n";
    let lines = (1 << 20) / line.len() + 1;
    let outcome = client
        .run(script("big", line.repeat(lines) + "echo $x; cat; exit 5"))
        .await;
    assert_eq!(outcome.out(), format!("{lines}\n"));
    assert_eq!(outcome.exit.code, 5);
}

#[tokio::test]
async fn exit_codes_and_signals_are_reported() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    for (text, code, signal) in [
        ("exit 0", 0, 0),
        ("exit 3", 3, 0),
        ("exit 255", 255, 0),
        ("kill -TERM $$", 143, 15),
        ("kill -KILL $$", 137, 9),
        ("kill -64 $$", 192, 64),
        ("false; true && ( exit 7 )", 7, 0),
    ] {
        let exit = client.sh(text).await.exit;
        assert_eq!(
            (exit.code, exit.signal, exit.timed_out),
            (code, signal, false),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_program_that_cannot_run_ends_as_in_a_shell() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", "echo no", 0o644);
    let lost = file("lost", "#!/nowhere/sh\n", 0o755);
    for (name, code, line) in [
        (
            "no-such-program",
            127,
            "no-such-program: command not found\n".to_owned(),
        ),
        ("", 127, ": command not found\n".to_owned()),
        (
            "/no/such/file",
            127,
            "/no/such/file: No such file or directory\n".to_owned(),
        ),
        ("/tmp", 126, "/tmp: Is a directory\n".to_owned()),
        (&plain, 126, format!("{plain}: Permission denied\n")),
        (
            &lost,
            127,
            format!("{lost}: cannot execute: required file not found\n"),
        ),
    ] {
        let outcome = client
            .run(argv(&format!("x-{code}-{}", name.len()), &[name]))
            .await;
        assert_eq!((outcome.exit.code, outcome.err()), (code, line.as_str()));
    }
    let bare = file("bare", "echo $1", 0o755);
    assert_eq!(
        client.run(argv("bare", &[&bare, "works"])).await.out(),
        "works\n"
    );
}

#[tokio::test]
async fn a_missing_directory_is_reported_and_nothing_runs() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let outcome = client
        .run(Start {
            cwd: "/nope".into(),
            ..script("a", "echo ran")
        })
        .await;
    assert_eq!((outcome.exit.code, outcome.out()), (1, ""));
    assert_eq!(outcome.err(), "cd: /nope: No such file or directory\n");
    let outcome = client
        .run(Start {
            cwd: "/etc/passwd".into(),
            ..argv("b", &["pwd"])
        })
        .await;
    assert_eq!(outcome.err(), "cd: /etc/passwd: Not a directory\n");
}

#[tokio::test]
async fn a_directory_holds_for_one_command() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let home = client.run(argv("a", &["/bin/pwd"])).await;
    assert_eq!(
        client
            .run(Start {
                cwd: "/usr".into(),
                ..argv("b", &["/bin/pwd"])
            })
            .await
            .out(),
        "/usr\n"
    );
    assert_eq!(
        client
            .run(Start {
                cwd: "/usr".into(),
                ..argv("c", &["bin/env", "pwd"])
            })
            .await
            .out(),
        "/usr\n"
    );
    assert_eq!(client.run(argv("d", &["/bin/pwd"])).await.out(), home.out());
}

#[tokio::test]
async fn an_environment_lies_on_top_of_the_agents() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let start = script(
        "a",
        "printf '%s|' \"$A\" \"$HOME\" \"${PATH:+path}\"; env | grep -c ^HOME=",
    );
    let start = Start {
        env: env(&[("A", "1\n=ü"), ("HOME", "/h")]),
        ..start
    };
    assert_eq!(client.run(start).await.out(), "1\n=ü|/h|path|1\n");
    let lost = Start {
        env: env(&[("PATH", "/nope")]),
        ..argv("b", &["ls"])
    };
    assert_eq!(client.run(lost).await.exit.code, 127);
    let found = Start {
        env: env(&[("PATH", "/nope")]),
        ..script("c", "echo $PATH")
    };
    assert_eq!(client.run(found).await.out(), "/nope\n");
}

#[tokio::test]
async fn an_invalid_start_is_refused() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    for start in [
        script("", "true"),
        script("a/b", "true"),
        script(&"x".repeat(65), "true"),
        argv("a", &[]),
        argv("a", &["a\0b"]),
        Start {
            id: "a".into(),
            ..Start::default()
        },
        Start {
            cwd: "/\0".into(),
            ..script("a", "true")
        },
        Start {
            env: env(&[("1A", "")]),
            ..script("a", "true")
        },
        Start {
            env: env(&[("A", "\0")]),
            ..script("a", "true")
        },
        script("a", vec![b' '; hutch_wire::limits::MAX_START + 1]),
    ] {
        assert_eq!(
            client.refused(Input::Start(start)).await,
            Code::InvalidArgument
        );
    }
    assert_eq!(client.run(script("a", "echo still")).await.out(), "still\n");
}

#[tokio::test]
async fn standard_input_is_empty_unless_asked_for() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    assert_eq!(client.sh("cat; echo $?").await.out(), "0\n");
    let call = client.start(script("a", "sleep 1000")).await;
    call.stdin(b"x");
    assert_eq!(
        call.finish().await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn standard_input_is_streamed() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let start = Start {
        stdin: true,
        ..script("a", "while read l; do echo \"got $l\"; done; echo end")
    };
    let mut call = client.start(start).await;
    call.stdin(b"one\n");
    call.until("got one\n").await;
    call.stdin(b"two\n");
    call.until("got two\n").await;
    call.stdin_end();
    assert_eq!(call.finish().await.unwrap().out(), "end\n");
}

#[tokio::test]
async fn much_input_reaches_a_slow_reader_whole() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let call = client
        .start(Start {
            stdin: true,
            ..argv("a", &["wc", "-c"])
        })
        .await;
    call.stdin(&vec![7; 20 << 20]);
    call.stdin_end();
    assert_eq!(
        call.finish().await.unwrap().out().trim(),
        (20 << 20).to_string()
    );
}

#[tokio::test]
async fn a_process_that_reads_no_input_ends_all_the_same() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let call = client
        .start(Start {
            stdin: true,
            ..script("a", "exec <&-; echo done")
        })
        .await;
    call.stdin(&vec![7; 4 << 20]);
    assert_eq!(call.finish().await.unwrap().out(), "done\n");
}

#[tokio::test]
async fn input_and_more_output_do_not_wait_for_each_other() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let text = "while read l; do head -c 2000000 /dev/zero; done";
    let call = client
        .start(Start {
            stdin: true,
            ..script("a", text)
        })
        .await;
    // All of the input is sent before the first acknowledgement.
    call.stdin(format!("{}\n", "x".repeat(99_999)).repeat(20).as_bytes());
    call.stdin_end();
    assert_eq!(call.finish().await.unwrap().stdout.len(), 40_000_000);
}
