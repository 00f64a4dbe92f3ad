//! `/execute` in the languages that need more than the usual image: Node.js, Ruby and Go,
//! each by all its names.

use serde_json::{Value, json};

use crate::support::World;

/// The names of a language, and code for everything that all languages do alike.
struct Language {
    names: &'static [&'static str],
    /// Prints one plus one, and its first argument or nothing.
    two: &'static str,
    /// Prints its working directory.
    directory: &'static str,
    /// Prints how many bytes are on stdin.
    stdin: &'static str,
    /// Prints `before` and, on stderr, `oops`; then waits for a `sleep` that it
    /// starts.
    waits: &'static str,
    /// Prints bytes that have a meaning for shells.
    quotes: &'static str,
    /// A comment.
    comment: &'static str,
    /// Code, its exit code, and a word that its stderr contains. If the word is empty, so
    /// is stderr.
    fails: &'static [(&'static str, i32, &'static str)],
}

const LANGUAGES: [Language; 3] = [
    Language {
        names: &["node", "javascript", "js", "Node"],
        two: "process.stdout.write(`${1+1}${process.argv[2] ?? ''}`)",
        directory: "console.log(process.cwd())",
        stdin: "console.log(require('fs').readFileSync(0).length)",
        waits: "console.log('before'); console.error('oops');
            require('child_process').spawnSync('sleep', ['600']); console.log('after')",
        quotes: r#"process.stdout.write("it's $(id) `id` $HOME \\ \"q\" 用户")"#,
        comment: "//",
        fails: &[
            ("process.exit(3)", 3, ""),
            ("process.exitCode = 4; console.error('why')", 4, "why"),
            ("null.x", 1, "TypeError"),
            ("let a = = 1", 1, "SyntaxError"),
            ("process.kill(process.pid, 'SIGKILL')", 137, ""),
            ("-1; process.exit(5)", 5, ""),
        ],
    },
    Language {
        names: &["ruby", "rb"],
        two: "print 1+1, ARGV[0]",
        directory: "puts Dir.pwd",
        stdin: "puts $stdin.read.bytesize",
        waits: "$stdout.sync = true; puts 'before'; warn 'oops'; system 'sleep 600'; puts 'after'",
        quotes: r#"print "it's $(id) `id` $HOME \\ \"q\" 用户""#,
        comment: "#",
        fails: &[
            ("exit 3", 3, ""),
            ("abort 'why'", 1, "why"),
            ("1/0", 1, "ZeroDivisionError"),
            ("def f(", 1, "syntax error"),
            ("Process.kill 'KILL', Process.pid; sleep", 137, ""),
            ("-1; exit 5", 5, ""),
        ],
    },
    Language {
        names: &["go", "golang"],
        two: r#"package main; import ("fmt"; "os"); func main() { fmt.Print(1+1, len(os.Args)-1) }"#,
        directory: r#"package main
            import ("fmt"; "os")
            func main() { d, _ := os.Getwd(); fmt.Println(d) }"#,
        stdin: r#"package main
            import ("fmt"; "io"; "os")
            func main() { b, err := io.ReadAll(os.Stdin); if err == nil { fmt.Println(len(b)) } }"#,
        waits: r#"package main
            import ("fmt"; "os"; "os/exec")
            func main() {
                fmt.Println("before"); fmt.Fprintln(os.Stderr, "oops")
                exec.Command("sleep", "600").Run(); fmt.Println("after")
            }"#,
        quotes: r#"package main; import "fmt"; func main() { fmt.Print("it's $(id) `id` $HOME \\ \"q\" 用户") }"#,
        comment: "//",
        fails: &[
            (
                "package main; import \"os\"; func main() { os.Exit(3) }",
                3,
                "",
            ),
            ("package main; func main() { panic(\"why\") }", 2, "why"),
            ("package main\nfunc main() { x }", 2, ":2:15: undefined: x"),
            ("package shop", 1, "main package"),
            ("package main\nfunc {", 2, ":2:6: syntax error"),
            (
                "package main; import \"syscall\"; func main() { syscall.Kill(syscall.Getpid(), 9); select {} }",
                137,
                "",
            ),
        ],
    },
];

fn output(result: &Value) -> (&str, &str, i64) {
    (
        result["stdout"].as_str().unwrap(),
        result["stderr"].as_str().unwrap(),
        result["exit_code"].as_i64().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn node_ruby_and_go_run_by_every_name_in_the_directory_of_commands_with_empty_stdin() {
    let world = World::new("interpreters").await;
    let (_hutch, backend) = world.with_languages("c").await;
    backend.stdout("mkdir -p \"/tmp/it's \\$(id)\"").await;
    for language in &LANGUAGES {
        for name in language.names {
            let result = backend.run_in(name, language.two).await;
            let two = if name.starts_with("go") { "2 0" } else { "2" };
            assert_eq!(output(&result), (two, "", 0), "{name}");
        }
        let name = language.names[0];
        let result = backend.run_in(name, language.stdin).await;
        assert_eq!(output(&result), ("0\n", "", 0), "{name}");
        let result = backend.run_in(name, language.directory).await;
        assert_eq!(output(&result), ("/sandbox\n", "", 0), "{name}");
        for directory in ["/tmp/it's $(id)", "/"] {
            let fields =
                json!({"command": language.directory, "language": name, "working_dir": directory});
            let result = backend.call("/execute", fields).await.ok();
            let directory = format!("{directory}\n");
            assert_eq!(output(&result), (directory.as_str(), "", 0), "{name}");
        }
    }
    let look = "ls -A /tmp /sandbox";
    let left = backend.stdout(look).await;
    assert!(
        !left.contains("hutch"),
        "nothing of it stays behind: {left}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_any_language_fails_with_its_own_exit_code_and_text() {
    let world = World::new("codes").await;
    let (_hutch, backend) = world.with_languages("c").await;
    for language in &LANGUAGES {
        let name = language.names[0];
        for (code, exit_code, word) in language.fails {
            let result = backend.run_in(name, code).await;
            let (_, stderr, ended) = output(&result);
            assert_eq!(ended, i64::from(*exit_code), "{code}: {result:#}");
            assert!(stderr.contains(word), "{code}: {stderr}");
            assert_eq!(stderr.is_empty(), word.is_empty(), "{code}: {stderr}");
        }
    }
    let fields = json!({"command": "1", "language": "cobol"});
    let text = backend.call("/execute", fields).await.fails(400);
    let known = "bash, sh, python, node, ruby, perl, go";
    assert!(text.ends_with(known), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_any_language_may_have_any_bytes_and_be_of_any_length() {
    let world = World::new("any-code").await;
    let (_hutch, backend) = world.with_languages("c").await;
    for language in &LANGUAGES {
        let name = language.names[0];
        let long = format!(
            "{}\n{} {}\n",
            language.quotes,
            language.comment,
            "it's \"$(id)\" ".repeat(20_000)
        );
        for code in [language.quotes, &long] {
            let result = backend.run_in(name, code).await;
            let wanted = "it's $(id) `id` $HOME \\ \"q\" 用户";
            let (stdout, stderr, exit_code) = output(&result);
            assert_eq!((stdout, exit_code), (wanted, 0), "{name}: {stderr}");
        }
    }
    let left = backend.stdout("ls -A /tmp").await;
    assert!(
        !left.contains("hutch"),
        "nothing of it stays behind: {left}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_all_processes_of_code_in_any_language() {
    let world = World::new("children").await;
    let (_hutch, backend) = world.with_languages("c").await;
    // The first time is slow: Go compiles its library.
    backend
        .run_in(
            "go",
            LANGUAGES[2].waits.split("exec.Command").next().unwrap(),
        )
        .await;
    for language in &LANGUAGES {
        let name = language.names[0];
        let fields = json!({"command": language.waits, "language": name, "timeout": 10});
        let result = backend.call("/execute", fields).await.ok();
        assert_eq!(output(&result), ("before\n", "oops\n", 124), "{name}");
    }
    // The timeout may also pass while a compiler runs.
    let code = "package main; import _ \"net/http\"; func main() {}";
    let fields = json!({"command": code, "language": "go", "timeout": 0.05});
    let result = backend.call("/execute", fields).await.ok();
    assert_eq!(output(&result).2, 124, "{result:#}");
    let running = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -oE 'sleep 60[0]|compil[e]|hutch-[0-9a-f-]{36}'; true";
    assert_eq!(backend.stdout(running).await, "", "nothing of it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn go_code_uses_the_packages_of_the_module_that_it_starts_in() {
    let world = World::new("module").await;
    let (_hutch, backend) = world.with_languages("c").await;
    for (path, content) in [
        ("shop/go.mod", "module example.com/shop\n\ngo 1.19\n"),
        (
            "shop/price/price.go",
            "package price\n\nfunc Of() int { return 7 }\n",
        ),
    ] {
        backend.write(path, content).await.ok();
    }
    let code =
        "package main\nimport \"example.com/shop/price\"\nfunc main() { println(price.Of()) }";
    let within =
        |directory: &str| json!({"command": code, "language": "go", "working_dir": directory});
    let result = backend.call("/execute", within("shop")).await.ok();
    assert_eq!(output(&result), ("", "7\n", 0));
    let result = backend.call("/execute", within("/tmp")).await.ok();
    assert_eq!(output(&result).2, 1, "{result:#}");
    assert!(output(&result).1.contains("go.mod"), "{result:#}");
}
