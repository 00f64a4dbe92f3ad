//! `/execute`: code in the languages of the image, byte for byte, and the sandbox that it
//! runs in.

use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Tenant, World};
use hutch_api::CONTAINER;

/// The output of each language that every image of Debian has, for one plus one.
const LANGUAGES: &[(&str, &str)] = &[
    ("bash", "printf %s $((1+1)) ${BASH_VERSION:+bash}"),
    ("sh", "printf %s $((1+1)) ${BASH_VERSION:+bash}"),
    ("python", "print(1+1, end='')"),
    ("perl", "print 1+1"),
];

/// Code, and its exact output on stdout and stderr.
const PRINTED: &[(&str, &str, &str, &str)] = &[
    ("bash", "echo", "\n", ""),
    ("bash", "printf 'a\\n\\n'", "a\n\n", ""),
    ("bash", "printf a", "a", ""),
    ("bash", "true", "", ""),
    ("bash", "echo o; echo e >&2", "o\n", "e\n"),
    ("bash", "echo one\necho two\n", "one\ntwo\n", ""),
    (
        "bash",
        "echo 'it'\"'\"'s' \"\\$HOME\" '$(id)' '`id`'",
        "it's $HOME $(id) `id`\n",
        "",
    ),
    (
        "bash",
        "cat <<'E'\n$(id) \"q\" 'q'\nE",
        "$(id) \"q\" 'q'\n",
        "",
    ),
    ("bash", "echo 用户 ü", "用户 ü\n", ""),
    ("bash", "cat; echo after", "after\n", ""),
    ("bash", "cat | wc -c", "0\n", ""),
    (
        "bash",
        "read -r x; echo \"$?$x\"\necho after",
        "1\nafter\n",
        "",
    ),
    (
        "sh",
        "echo \"$0\" >/dev/null; printf '%s\\n' '$(id)' \"it's\"",
        "$(id)\nit's\n",
        "",
    ),
    ("sh", "cat; echo after", "after\n", ""),
    (
        "python",
        "print('$(id) `id` $HOME \"q\"', \"it's\")",
        "$(id) `id` $HOME \"q\" it's\n",
        "",
    ),
    (
        "python",
        "def f():\n    return '''a\n'b\"'''\nprint(f())\n",
        "a\n'b\"\n",
        "",
    ),
    (
        "python",
        "import sys\nprint(repr(sys.stdin.read()))",
        "''\n",
        "",
    ),
    (
        "python",
        "import sys; sys.stderr.write('e'); print('用户')",
        "用户\n",
        "e",
    ),
    ("python", "-1; print('a dash')", "a dash\n", ""),
    ("python", "--1; print(\"\"\"-c\"\"\")", "-c\n", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn code_is_run_in_the_language_that_is_named_or_else_in_bash() {
    let world = World::new("languages").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    for (language, code) in LANGUAGES {
        let result = backend.run_in(language, code).await;
        let bash = if *language == "bash" { "bash" } else { "" };
        assert_eq!(
            result["stdout"],
            format!("2{bash}"),
            "{language}: {result:#}"
        );
        assert_eq!(result["exit_code"], 0, "{language}: {result:#}");
    }
    // A client that always sends the field sends it empty.
    for language in [json!(""), json!(null)] {
        let fields = json!({"command": LANGUAGES[0].1, "language": language});
        let result = backend.call("/execute", fields).await.ok();
        assert_eq!(result["stdout"], "2bash", "{result:#}");
    }
    assert_eq!(backend.stdout(LANGUAGES[0].1).await, "2bash");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_missing_in_the_image_is_refused_and_the_others_are_named() {
    let world = World::new("unknown").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    for language in ["cobol", "node", "go", "ruby", "python; id", "$(id)", "-c"] {
        let fields = json!({"command": "1", "language": language});
        let text = backend.call("/execute", fields).await.fails(400);
        let text = text.replacen(language, "", 1);
        let words: Vec<_> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        for known in ["bash", "sh", "python"] {
            assert!(words.contains(&known), "{language}: {text}");
        }
        for unknown in ["node", "go", "ruby", "php"] {
            assert!(!words.contains(&unknown), "{language}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_returned_byte_for_byte_and_stdin_is_empty() {
    let world = World::new("printed").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    for (language, code, stdout, stderr) in PRINTED {
        let result = backend.run_in(language, code).await;
        let output = (&result["stdout"], &result["stderr"], &result["exit_code"]);
        let wanted = (&json!(stdout), &json!(stderr), &json!(0));
        assert_eq!(output, wanted, "{language}: {code}");
    }
    // A leading dash is the name of a command that does not exist, never an option.
    for language in ["bash", "sh"] {
        for code in ["-n echo no", "--version", "-c", "--help"] {
            let result = backend.run_in(language, code).await;
            assert_eq!(result["exit_code"], 127, "{language} {code}: {result:#}");
            assert_eq!(result["stdout"], "", "{language} {code}: {result:#}");
            let stderr = result["stderr"].as_str().unwrap();
            assert!(stderr.contains("not found"), "{language} {code}: {stderr}");
        }
    }
    // Neither is text. Both get an answer, as does the code after them.
    let result = backend.run("printf 'a\\377b\\0c'").await;
    assert!(
        result["stdout"].as_str().unwrap().starts_with('a'),
        "{result:#}"
    );
    let reply = backend
        .call("/execute", json!({"command": "echo a\0b"}))
        .await;
    assert!([200, 400].contains(&reply.status), "{reply:#?}");
    assert_eq!(backend.stdout("echo on").await, "on\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_fails_is_a_success_with_its_exit_code() {
    let world = World::new("exit-codes").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    for (language, code, exit_code) in [
        ("bash", "exit 3", 3),
        ("bash", "false", 1),
        ("bash", "kill -9 $$", 137),
        ("bash", "nothing-of-that-name", 127),
        ("bash", "if then fi (", 2),
        ("sh", "exit 4", 4),
        ("python", "import sys; sys.exit(7)", 7),
        ("python", "def f(:", 1),
        ("python", "1/0", 1),
        ("python", "import os; os.kill(os.getpid(), 9)", 137),
        // The text is the code's own, without a word about python3.
        ("python", "import sys; sys.exit(127)", 127),
    ] {
        let result = backend.run_in(language, code).await;
        assert_eq!(result["exit_code"], exit_code, "{code}: {result:#}");
    }
    let stderr = backend.run_in("python", "1/0").await["stderr"].clone();
    assert!(
        stderr.as_str().unwrap().contains("ZeroDivisionError"),
        "{stderr}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn code_past_its_timeout_answers_124_with_its_output() {
    let world = World::new("timeouts").await;
    let (_hutch, backend) = world.with_backend("c", &["--execute-timeout", "3s"]).await;
    backend.stdout("true").await;
    for (language, code) in [
        ("bash", "echo before; echo oops >&2; sleep 600; echo after"),
        ("sh", "echo before; echo oops >&2; sleep 600; echo after"),
        (
            "python",
            "import sys, time\nprint('before', flush=True)\nprint('oops', file=sys.stderr)\ntime.sleep(600)",
        ),
    ] {
        for timeout in [json!(1), json!(null)] {
            let begin = Instant::now();
            let fields = json!({"command": code, "language": language, "timeout": timeout});
            let result = backend.call("/execute", fields).await.ok();
            let took = begin.elapsed();
            let output = (&result["stdout"], &result["stderr"], &result["exit_code"]);
            let wanted = (&json!("before\n"), &json!("oops\n"), &json!(124));
            assert_eq!(output, wanted, "{language} {timeout}");
            let least = if timeout == 1 { 1 } else { 3 };
            assert!(
                took >= Duration::from_secs(least),
                "{language} {timeout}: {took:?}"
            );
            assert!(
                took < Duration::from_secs(20),
                "{language} {timeout}: {took:?}"
            );
        }
    }
    let left = backend
        .stdout("grep -l '^sleep' /proc/[0-9]*/cmdline; true")
        .await;
    assert_eq!(left, "", "nothing of it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_begins_in_the_working_directory() {
    let world = World::new("directories").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let here = [
        ("bash", "pwd"),
        ("sh", "pwd"),
        ("python", "import os; print(os.getcwd())"),
    ];
    for (language, code) in here {
        assert_eq!(backend.run_in(language, code).await["stdout"], "/sandbox\n");
        let directory = "/sandbox/it's $(id)\n-x";
        backend
            .stdout("mkdir -p /sandbox/\"it's \\$(id)\"$'\\n-x'")
            .await;
        for directory in ["/tmp", "/", directory] {
            let fields = json!({"command": code, "language": language, "working_dir": directory});
            let result = backend.call("/execute", fields).await.ok();
            assert_eq!(
                result["stdout"],
                format!("{directory}\n"),
                "{language}: {result:#}"
            );
        }
        let fields = json!({"command": code, "language": language, "working_dir": ""});
        let result = backend.call("/execute", fields).await.ok();
        assert_eq!(result["stdout"], "/sandbox\n", "{language}: {result:#}");
    }
    // Code whose directory is missing is not run elsewhere.
    let fields = json!({"command": "touch /tmp/ran", "working_dir": "/nothing/here"});
    let result = backend.call("/execute", fields).await.ok();
    assert_eq!(result["exit_code"], 1, "{result:#}");
    let text = result["stderr"].as_str().unwrap();
    assert!(text.contains("/nothing/here"), "{text}");
    assert_eq!(backend.run("test -e /tmp/ran").await["exit_code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_longer_than_an_argument_may_be_runs_like_any_other() {
    let world = World::new("long").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let long = "it's \"$(id)\" ".repeat(20_000);
    let code =
        format!("x = {long:?}\nimport sys\nprint(len(x), repr(sys.stdin.read()))\nsys.exit(5)");
    assert!(code.len() > 200 << 10);
    let result = backend.run_in("python", &code).await;
    let output = (&result["stdout"], &result["stderr"], &result["exit_code"]);
    assert_eq!(
        output,
        (
            &json!(format!("{} ''\n", long.len())),
            &json!(""),
            &json!(5)
        )
    );
    for language in ["bash", "sh"] {
        let code = format!(
            "# {long}\ncat\npwd\necho '{}' | wc -c\nexit 6",
            "y".repeat(300_000)
        );
        let result = backend.run_in(language, &code).await;
        let output = (&result["stdout"], &result["exit_code"]);
        assert_eq!(
            output,
            (&json!("/sandbox\n300001\n"), &json!(6)),
            "{language}"
        );
    }
    let look = "ls -d /tmp/*.py /tmp/*.sh /sandbox/* 2>/dev/null; true";
    assert_eq!(backend.stdout(look).await, "", "nothing of it stays behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_of_a_conversation_has_the_contracts_defaults() {
    let world = World::new("defaults").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    backend.stdout("true").await;
    let pods = world.live_pods().await;
    assert_eq!(pods.len(), 1);
    let spec = pods[0].spec.clone().unwrap();
    let container = spec.containers.iter().find(|it| it.name == CONTAINER);
    let container = container.unwrap();
    assert_eq!(container.image.as_deref(), Some("python:3.11-slim"));
    let limits = container.resources.clone().unwrap().limits.unwrap();
    assert_eq!(
        (limits["memory"].0.as_str(), limits["cpu"].0.as_str()),
        ("256Mi", "500m")
    );
    let context = container.security_context.clone().unwrap();
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_ne!(context.privileged, Some(true));
    let capabilities = context.capabilities.unwrap_or_default();
    let dropped = capabilities.drop.unwrap_or_default() == ["ALL"];
    let added = !capabilities.add.unwrap_or_default().is_empty();
    assert!(dropped, "what is not needed is dropped");
    assert!(!added || spec.host_users == Some(false), "none on the host");
    let mounts = container.volume_mounts.iter().flatten();
    assert_eq!(mounts.filter(|it| it.mount_path == "/sandbox").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_conversations_and_a_tenant_of_one_id_do_not_see_each_other() {
    let world = World::new("apart").await;
    let (_hutch, a) = world.with_backend("a", &[]).await;
    let b = a.about("b");
    let tenant = Tenant::new(&a.address(""), "a");
    let look = "ls /sandbox /tmp /workspace 2>/dev/null | grep mark-";
    tokio::join!(
        a.stdout("touch /sandbox/mark-a /tmp/mark-a"),
        b.stdout("touch /sandbox/mark-b /tmp/mark-b"),
        tenant.stdout("touch mark-t /tmp/mark-t"),
    );
    assert_eq!(a.stdout(look).await, "mark-a\nmark-a\n");
    assert_eq!(b.stdout(look).await, "mark-b\nmark-b\n");
    assert_eq!(tenant.stdout(look).await, "mark-t\nmark-t");
    assert_eq!((world.count().await, world.live_pods().await.len()), (3, 3));
    let names: Vec<_> = world
        .live_pods()
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert!(
        names.contains(&a.stdout("hostname").await.trim().to_owned()),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn first_requests_of_one_conversation_at_once_make_one_sandbox() {
    let world = World::new("at-once").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let run = |i: usize| {
        let backend = backend.clone();
        async move { backend.stdout(&format!("echo {i} >> all; echo {i}")).await }
    };
    let output = join_all((0..20).map(run)).await;
    let wanted: Vec<_> = (0..20).map(|i| format!("{i}\n")).collect();
    assert_eq!(output, wanted);
    assert_eq!(backend.stdout("sort -n all").await, wanted.concat());
    assert_eq!((world.count().await, world.live_pods().await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_conversation_past_the_limit_gets_503_until_there_is_room() {
    let world = World::new("full").await;
    let (_hutch, first) = world.with_backend("1", &["--max-sandboxes", "1"]).await;
    first.stdout("true").await;
    let second = first.about("2");
    for (path, fields) in [
        ("/execute", json!({"command": "true"})),
        ("/file/read", json!({"file_path": "x"})),
        ("/file/list", json!({})),
        ("/file/grep", json!({"pattern": "x"})),
        ("/lsp/diagnostics", json!({"file_path": "x.py"})),
    ] {
        let text = second.call(path, fields).await.fails(503);
        assert!(text.contains("limit"), "{path}: {text}");
    }
    let tree = second.get("/file/tree", &[("session_id", "2")]).await;
    assert!(tree.fails(503).contains("limit"));
    assert_eq!(first.stdout("echo on").await, "on\n", "the first goes on");
    assert_eq!(first.end().await, "Session 1 removed");
    assert_eq!(second.stdout("echo on").await, "on\n");
}
