//! Answers compared with those of GNU grep and find, which must be installed.

use super::{Scene, sorted};

/// A directory with every kind of name, content and file.
async fn scene() -> Scene {
    let scene = Scene::new().await;
    let names: [&[u8]; 13] = [
        b"-rf",
        b"--help",
        b"a b",
        b"new\nline",
        b"\"'`$(id)`\"",
        b"\\",
        b"*?[x]",
        b".hidden",
        "üñí-日本-🦀".as_bytes(),
        b"\xff\xfe",
        b"a\xffb",
        b"~#{};&|<>!",
        b"x.rs",
    ];
    for name in names {
        scene.put(name, [b"the name is ", name, b"\nlast"].concat());
        scene.put([b"sub/", name].concat(), b"needle\n");
    }
    let lines = "a+b\na*b\n*x\nab\naab\n+x\nd5\n^x\nx$y\n{x\n?q\nfoo bar\na{2}\na|b\n(x)\n]\n-\n\\\n\
                 éa\nÉ\n\ttab\n\nneedle needle\nA_b9\n\u{a0}\u{3000}x\n{1}x\nfoo\r\n[:alpha:]\n";
    scene.put("lines", lines);
    scene.put("dir/deep/er/lines", lines);
    scene.put("dir/empty", "");
    scene.put("dir/newline", "\n");
    scene.put("dir/binary", b"needle\0\nab\n");
    scene.put(
        "dir/late",
        [&b"needle\n".repeat(40_000)[..], b"\0needle\n"].concat(),
    );
    scene.put("dir/nul", b"\0x\0ab\0");
    scene.put("dir/latin", b"ok needle\n- \xf6 needle\nneedle z\n");
    scene
        .sh("mkfifo p dir/p; ln -s lines l; ln -s dir dl; ln -s . dir/self; ln -s none broken; mkdir e")
        .await;
    scene
}

const PATTERNS: &[&str] = &[
    "needle",
    "*x",
    "^*x",
    "\\(*x\\)",
    "\\+x",
    "\\?q",
    "\\{1\\}x",
    "\\{x",
    "a\\{2\\}",
    "a\\{,2\\}b",
    "a\\{2",
    "a\\{2,1\\}",
    "a\\{x\\}",
    "a\\{99999\\}",
    "\\d",
    "\\(",
    "\\)",
    "(",
    ")",
    "a\\",
    "[",
    "[a",
    "[[:foo:]]",
    "[[:alpha:]",
    "[:alpha:]",
    "[:space:",
    "[b-a]",
    "[]]",
    "[^]a]",
    "\\(a\\)\\2",
    "x^",
    "x\\|^d",
    "$y",
    "x$y",
    "x$",
    "\\(x$\\)",
    "a**b",
    "a*\\{2\\}b",
    "\\<a",
    "b\\>",
    "\\bfoo",
    "o\\Bo",
    "\\w\\W",
    "\\s",
    "\\S",
    "\\`a",
    "b\\'",
    "[[:upper:]]",
    "[[:lower:]]",
    "[[:alpha:]]",
    "[[:alnum:]]",
    "[[:digit:]]",
    "[[:xdigit:]]",
    "[[:space:]]",
    "[[:blank:]]",
    "[[:punct:]]",
    "[[:graph:]]",
    "[[:print:]]",
    "[[:cntrl:]]",
    "[[=a=]]",
    "[[.a.]]",
    "[[.hyphen.]]",
    "[[.-.]-z]",
    "[a-]",
    "[\\d]",
    "[\\]",
    "",
    "\\-",
    "\\.",
    "\\n",
    "\\{",
    "\\}",
    "}",
    "a\\|",
    "\\|",
    "\\(\\)",
    "^^x",
    "\\(^d\\)",
    "x*^",
    "a\\+\\?b",
    "\\é",
    "[z--]",
    "[%--]",
    "[a-c-e]",
    "a\\{,\\}",
    "a\\{1\\}\\{2\\}",
    "x\nd5",
    "\\(x\n\\)",
    "x\n",
    "a\\\nb",
    "+x\n*x",
    "x$\n5$",
    ".",
    "..",
    "^.$",
    "^$",
    "^",
    "$",
    "é",
    "[é]",
    "[^é]",
    "É*$",
    "-e",
    "--help",
    "-rf",
    "'",
    "\"",
    "$(id)",
    "`id`",
    "; id",
    "a b",
    "the name is .\\{3\\}$",
    "\\W$",
    "foo.$",
    "[^[:alpha:]]b",
    "[][:digit:]]",
    "[a-zA-Z_][a-zA-Z_0-9]*",
    "\t",
    "la\\?st",
    "last$",
    "\\_",
    "[[:alpha:]-z]",
    "[:]",
    "[::]",
    "[:a:]",
    "[^:a:]",
    "a.b",
    "🦀",
    "[日本]",
    "\\(a\\|b\\)\\{2\\}",
    "\\(^\\|x\\)\\$",
    "n\\(e\\{2\\}\\)d",
];

#[tokio::test]
async fn grep_answers_as_grep_does() {
    let scene = scene().await;
    for pattern in PATTERNS {
        for path in [".", "lines"] {
            let (ours, real) = (
                scene.grep(pattern, path).await,
                scene.real_grep(pattern, path.as_bytes()),
            );
            let context = format!("{pattern:?} in {path}: {} {}", ours.err(), real.err());
            assert_eq!(ours.exit_code, real.exit_code, "{context}");
            assert_eq!(sorted(&ours.stdout), sorted(&real.stdout), "{context}");
            if real.exit_code < 2 {
                assert_eq!(sorted(&ours.stderr), sorted(&real.stderr), "{context}");
            }
            assert!(!ours.truncated);
        }
    }
}

#[tokio::test]
async fn paths_are_printed_and_followed_as_by_grep() {
    let scene = scene().await;
    let outside = scene.directory.path().display().to_string();
    let paths: Vec<&[u8]> = vec![
        b".",
        b"./",
        b".//",
        b"dir",
        b"dir/",
        b"dir//",
        b"./dir/../dir",
        b"lines",
        b"l",
        b"dl",
        b"dl/",
        b"none",
        b"lines/",
        b"lines/x",
        b"broken",
        b"e",
        b"-rf",
        b"--help",
        b"a b",
        b"new\nline",
        b"\"'`$(id)`\"",
        b"\\",
        b"*?[x]",
        b".hidden",
        b"\xff\xfe",
        b"dir/self",
        b"dir/binary",
        b"dir/late",
        b"dir/latin",
        b"-x",
        b"--",
        b"$(id)",
        b"a\xff",
        b"..///none",
    ];
    let absolute = [format!("{outside}/dir"), format!("//{outside}/dir//")];
    let absolute = absolute.iter().map(|path| path.as_bytes());
    for path in paths.into_iter().chain(absolute) {
        let shown = path.escape_ascii();
        let (ours, real) = (
            scene.grep("needle", path).await,
            scene.real_grep("needle", path),
        );
        assert_eq!(ours.exit_code, real.exit_code, "{shown}");
        assert_eq!(sorted(&ours.stdout), sorted(&real.stdout), "{shown}");
        assert_eq!(sorted(&ours.stderr), sorted(&real.stderr), "{shown}");
        if path.starts_with(b"-") {
            // GNU find cannot take a path that starts so.
            continue;
        }
        for name in ["*", "lines", "dir", ".", "-*"] {
            let (ours, real) = (scene.find(name, path).await, scene.real_find(name, path));
            assert_eq!(ours.exit_code, real.exit_code, "{shown}");
            assert_eq!(sorted(&ours.stdout), sorted(&real.stdout), "{name} {shown}");
            assert_eq!(sorted(&ours.stderr), sorted(&real.stderr), "{shown}");
        }
    }
}

#[tokio::test]
async fn find_answers_as_find_does() {
    let scene = scene().await;
    for name in [
        "*",
        "?",
        "??",
        "*.rs",
        ".*",
        "*h*",
        "lines",
        "",
        "-rf",
        "--help",
        "-*",
        "a b",
        "a?b",
        "new\nline",
        "new?line",
        "*\n*",
        "\"*",
        "*'*",
        "$(id)",
        "`id`",
        "*$(id)*",
        "\\\\",
        "\\",
        "[",
        "[x",
        "[*]*",
        "\\*\\?\\[x]",
        "[[]x",
        "[!a]*",
        "[^a]*",
        "[]a]*",
        "[!]]*",
        "[\\]]",
        "[[:alpha:]]*",
        "[[:upper:]]*",
        "[[:punct:]]*",
        "[[:digit:]",
        "[[:foo:]]*",
        "[z-a]*",
        "[a-e]*",
        "[--.]*",
        "[[=d=]]*",
        "[[.d.]]*",
        "[[.dd.]]*",
        "ü*",
        "[ü]*",
        "*🦀",
        "*[日-本]*",
        "*\u{fffd}*",
        "a**b",
        "l",
        "p",
        "e",
        "self",
        "broken",
        "a\\",
        "dir/*",
        "sub",
        "*[a/b]*",
        "[a-\\e]*",
        "[",
        "[!",
        "[a-",
        "[[:alpha:",
        "[[.",
        "[[=d",
    ] {
        let (ours, real) = (scene.find(name, ".").await, scene.real_find(name, b"."));
        assert_eq!(ours.exit_code, real.exit_code, "{name:?}");
        assert_eq!(sorted(&ours.stdout), sorted(&real.stdout), "{name:?}");
        assert_eq!(ours.stderr, real.stderr, "{name:?}");
    }
}
