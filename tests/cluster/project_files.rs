//! `/file/*`: reading, writing, listing, editing and the tree, down to the byte.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::World;
use crate::support::backend::{Backend, Reply};

/// Names that look like options, patterns or code.
pub const NAMES: &[&str] = &[
    "it's",
    "\"quoted\"",
    "$(touch broken)",
    "`touch broken`",
    "$HOME",
    "a;touch broken",
    "one\ntwo",
    "-rf",
    "--help",
    "--",
    " spaces ",
    "*",
    "[a",
    "back\\slash",
    "用户",
];

/// Checks that nothing in a name or a pattern was run.
pub async fn unbroken(backend: &Backend) {
    let code = "find / /sandbox /tmp -xdev -name broken";
    assert_eq!(backend.run(code).await["stdout"], "");
}

async fn list(backend: &Backend, fields: Value) -> Vec<String> {
    let body = backend.call("/file/list", fields).await.ok();
    serde_json::from_value(body["files"].clone()).unwrap()
}

async fn edit(backend: &Backend, path: &str, (old, new): (&str, &str), all: bool) -> Reply {
    let mut fields = json!({"file_path": path, "old_string": old, "new_string": new});
    // Default values may be left out.
    if all {
        fields["replace_all"] = json!(true);
    }
    backend.call("/file/edit", fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_as_it_was_written_and_its_directories_are_created() {
    let world = World::new("read").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let large = "it's \"$(id)\"\n".repeat(100_000);
    let contents = [
        "",
        "\n",
        "no end",
        "a\r\nb\n\n",
        "用户 ü \u{1f600}",
        "a\0b",
        &large,
    ];
    for content in contents {
        let shown: String = content.chars().take(20).collect();
        for path in ["a/b/c.txt", "/tmp/x/y.txt", "./d", "a/../e"] {
            let body = backend.write(path, content).await.ok();
            let reported = format!("File {path} written successfully");
            assert_eq!(body["message"], reported, "{shown:?}");
            assert_eq!(backend.text(path).await, content, "{path} {shown:?}");
        }
        // A relative path begins at the working directory.
        assert_eq!(
            backend.text("/sandbox/a/b/c.txt").await,
            content,
            "{shown:?}"
        );
        let size = backend.stdout("wc -c < /sandbox/a/b/c.txt").await;
        assert_eq!(size, format!("{}\n", content.len()), "{shown:?}");
    }
    backend
        .stdout("printf 'bytes \\n' > /sandbox/by-hand")
        .await;
    assert_eq!(backend.text("by-hand").await, "bytes \n");
    for path in ["nothing", "/no/such/file", "a/b/c.txt/x/y"] {
        let reply = backend.read(path).await;
        let wanted = if path.starts_with("a/") {
            [400, 404]
        } else {
            [404, 404]
        };
        let status = reply.status;
        assert!(wanted.contains(&status), "{path}: {reply:#?}");
        reply.fails(status);
    }
    for path in ["/sandbox", "/", "/proc/self/mem"] {
        let (read, written) = (backend.read(path).await, backend.write(path, "x").await);
        for reply in [read, written] {
            let status = reply.status;
            assert!((400..500).contains(&status), "{path}: {reply:#?}");
            reply.fails(status);
        }
    }
    assert_eq!(backend.stdout("echo on").await, "on\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_looks_like_code_is_a_name() {
    let world = World::new("names").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    for name in NAMES {
        for path in [(*name).to_owned(), format!("/sandbox/d/{name}/{name}")] {
            let body = backend.write(&path, name).await.ok();
            assert_eq!(body["message"], format!("File {path} written successfully"));
            assert_eq!(backend.text(&path).await, *name, "{path:?}");
            let body = edit(&backend, &path, (name, &format!("<{name}>")), false)
                .await
                .ok();
            assert_eq!(body["message"], format!("File {path} edited successfully"));
            assert_eq!(backend.text(&path).await, format!("<{name}>"), "{path:?}");
        }
        let files = list(&backend, json!({"path": format!("/sandbox/d/{name}")})).await;
        assert_eq!(files, [*name]);
        let files = list(&backend, json!({"path": format!("d/{name}")})).await;
        assert_eq!(files, [*name]);
    }
    // Python handles the names without a shell.
    let code = "import json, os; print(json.dumps(os.listdir('/sandbox')))";
    let mut there: Vec<String> = serde_json::from_str(&backend.python(code).await).unwrap();
    let mut wanted: Vec<_> = NAMES.iter().copied().chain(["d"]).collect();
    there.sort();
    wanted.sort_unstable();
    assert_eq!(there, wanted);
    unbroken(&backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_listed_as_by_ls_and_a_missing_one_is_empty() {
    let world = World::new("list").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let make =
        "mkdir -p d/e .hid; touch b a '1 2' .hidden B ü d/x; ln -s nowhere link; ln -s d folder";
    backend.stdout(make).await;
    for (fields, directory) in [
        (json!({}), "/sandbox"),
        (json!({"path": ""}), "/sandbox"),
        (json!({"path": null}), "/sandbox"),
        (json!({"path": "."}), "/sandbox"),
        (json!({"path": "/sandbox/"}), "/sandbox"),
        (json!({"path": "d"}), "/sandbox/d"),
        (json!({"path": "folder"}), "/sandbox/d"),
        (json!({"path": "d/e"}), "/sandbox/d/e"),
        (json!({"path": "/"}), "/"),
    ] {
        let printed = backend.stdout(&format!("ls -1 {directory}")).await;
        let wanted: Vec<_> = printed.lines().collect();
        assert_eq!(list(&backend, fields.clone()).await, wanted, "{fields}");
    }
    for missing in ["nothing", "/no/such", "-l", "$(echo d)", "d'"] {
        assert_eq!(
            list(&backend, json!({"path": missing})).await,
            [""; 0],
            "{missing}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_replaces_the_first_match_all_matches_or_the_whole_file() {
    let world = World::new("edit").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let before = "a.b a.b\r\n\\1 $& 'q'\n\na.b";
    for (old, new, all, after) in [
        ("a.b", "X", false, "X a.b\r\n\\1 $& 'q'\n\na.b"),
        ("a.b", "X", true, "X X\r\n\\1 $& 'q'\n\nX"),
        (
            "a.b",
            "a.b a.b",
            true,
            "a.b a.b a.b a.b\r\n\\1 $& 'q'\n\na.b a.b",
        ),
        (
            "\\1 $& 'q'",
            "\\0$1$(id)&/",
            true,
            "a.b a.b\r\n\\0$1$(id)&/\n\na.b",
        ),
        ("\r\n", "", false, "a.b a.b\\1 $& 'q'\n\na.b"),
        ("\n\n", "\n", true, "a.b a.b\r\n\\1 $& 'q'\na.b"),
        ("", "new", false, "new"),
        ("", "", false, ""),
        ("", "new", true, "new"),
        (before, "", false, ""),
    ] {
        backend.write("f", before).await.ok();
        let body = edit(&backend, "f", (old, new), all).await.ok();
        assert_eq!(body["message"], "File f edited successfully");
        assert_eq!(backend.text("f").await, after, "{old:?} → {new:?}, {all}");
    }
    // The text is not a pattern, its case counts, and it may be missing.
    for old in ["a?b", ".*", "A.B", "a.b  a.b", "^a"] {
        backend.write("f", before).await.ok();
        let text = edit(&backend, "f", (old, "X"), true).await.fails(400);
        assert!(text.contains("not found"), "{old:?}: {text}");
        assert_eq!(backend.text("f").await, before, "{old:?}");
    }
    // A missing file counts as empty.
    edit(&backend, "new/file", ("x", "y"), false)
        .await
        .fails(400);
    backend.read("new/file").await.fails(404);
    edit(&backend, "new/file", ("", "made\n"), false).await.ok();
    assert_eq!(backend.text("new/file").await, "made\n");
    edit(&backend, "empty", ("", ""), false).await.ok();
    assert_eq!(backend.text("empty").await, "");
    // Bytes that are no text stay as they are.
    backend
        .stdout("printf 'a\\377b\\0c' > bytes; chmod 750 bytes")
        .await;
    edit(&backend, "bytes", ("b", "B"), false).await.ok();
    let bytes = backend.stdout("od -An -tx1 bytes; stat -c %a bytes").await;
    assert_eq!(bytes, " 61 ff 42 00 63\n750\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_one_file_at_the_same_time_are_all_made() {
    let world = World::new("edits").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let lines = |word: &str| -> String { (0..40).map(|i| format!("{word} {i:02}\n")).collect() };
    backend.write("a/f", &lines("to do")).await.ok();
    // The file has more than one name (hard links).
    let names = ["a/f", "./a/../a/f", "/sandbox/a/f"];
    let edits = (0..40).map(|i| {
        let (backend, name) = (backend.clone(), names[i % names.len()]);
        async move {
            let (old, new) = (format!("to do {i:02}"), format!("done {i:02}"));
            edit(&backend, name, (&old, &new), false).await.ok()
        }
    });
    join_all(edits).await;
    assert_eq!(backend.text("a/f").await, lines("done"));
}

const TREE: &str = "mkdir -p a/empty a/.git node_modules/x __pycache__ .hidden z/node_modules
printf 'text ü\\n' > b.txt; : > a/0; printf x > .env; printf x > node_modules/x/y.js
printf x > __pycache__/c.pyc; printf x > z/node_modules/q; printf x > a/.git/HEAD
printf 'a\\377' > a/bytes; printf 'it' > \"a/q'\\\"\"; ln -s . a/loop; ln -s /etc/hostname a/out
head -c 1048576 /dev/zero | tr '\\0' x > mib; head -c 1048575 /dev/zero | tr '\\0' x > under";

/// Every node in walk order, as path, type and the length of its content.
fn walked(node: &Value) -> Vec<(String, String, Option<usize>)> {
    let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
    assert!(
        node["id"].is_string() && node["name"].is_string(),
        "{node:#}"
    );
    let content = node["content"].as_str().map(str::len);
    let mut all = vec![(text("path"), text("type"), content)];
    for child in node["children"].as_array().into_iter().flatten() {
        let name = child["name"].as_str().unwrap();
        let above = text("path");
        let path = format!("{}/{name}", above.trim_end_matches('/'));
        assert_eq!(child["path"], path, "{child:#}");
        all.extend(walked(child));
    }
    all
}

fn ids(node: &Value) -> Vec<String> {
    let own = node["id"].as_str().unwrap().to_owned();
    let children = node["children"].as_array().into_iter().flatten();
    std::iter::once(own).chain(children.flat_map(ids)).collect()
}

async fn tree(backend: &Backend, path: Option<&str>) -> Reply {
    let mut query = vec![("session_id", "c")];
    query.extend(path.map(|path| ("path", path)));
    backend.get("/file/tree", &query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_has_the_visible_entries_in_order() {
    let world = World::new("tree").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    backend.stdout(TREE).await;
    let root = tree(&backend, None).await.ok()["tree"].clone();
    let found = walked(&root);
    let links = |path: &str| ["/a/loop", "/a/out"].contains(&path);
    let plain: Vec<_> = found.iter().filter(|node| !links(&node.0)).collect();
    let plain: Vec<_> = plain
        .iter()
        .map(|node| (node.0.as_str(), node.1.as_str(), node.2))
        .collect();
    let wanted = [
        ("/", "folder", None),
        ("/a", "folder", None),
        ("/a/0", "file", Some(0)),
        ("/a/bytes", "file", None),
        ("/a/empty", "folder", None),
        ("/a/q'\"", "file", Some(2)),
        ("/b.txt", "file", Some(8)),
        ("/mib", "file", None),
        ("/under", "file", Some((1 << 20) - 1)),
        ("/z", "folder", None),
    ];
    assert_eq!(plain, wanted);
    let count: Vec<_> = (1..=found.len()).map(|id| id.to_string()).collect();
    assert_eq!(ids(&root), count);
    // Links are not followed.
    assert!(
        !found.iter().any(|node| node.0.starts_with("/a/loop/")),
        "{found:?}"
    );

    for path in ["a", "/sandbox/a", "a/", "./a"] {
        let root = tree(&backend, Some(path)).await.ok()["tree"].clone();
        assert_eq!(
            (&root["id"], &root["path"]),
            (&json!("1"), &json!("/")),
            "{path}"
        );
        let found: Vec<_> = walked(&root).into_iter().map(|node| node.0).collect();
        assert!(found.contains(&"/empty".to_owned()), "{path}: {found:?}");
    }
    let root = tree(&backend, Some("a/empty")).await.ok()["tree"].clone();
    assert_eq!(walked(&root).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_a_missing_path_is_404_and_names_the_path() {
    let world = World::new("no-tree").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let missing = [
        "nothing",
        "/no/such",
        "it's",
        "$(echo a)",
        "-rf",
        "one\ntwo",
        "a/../b",
        "用户",
    ];
    for path in missing {
        let text = tree(&backend, Some(path)).await.fails(404);
        assert_eq!(text, format!("Path does not exist: {path}"));
    }
    for name in NAMES {
        let path = format!("d/{name}");
        backend.write(&format!("{path}/f"), "x").await.ok();
        let root = tree(&backend, Some(&path)).await.ok()["tree"].clone();
        let found: Vec<_> = walked(&root).into_iter().map(|node| node.0).collect();
        assert_eq!(found, ["/", "/f"], "{name:?}");
    }
    unbroken(&backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_past_a_limit_reports_it() {
    let world = World::new("limits").await;
    let (_hutch, backend) = world.with_backend("c", &["--max-file", "1Ki"]).await;
    backend
        .stdout("head -c 2000 /dev/zero | tr '\\0' x > big")
        .await;
    backend.read("big").await.fails(413);
    edit(&backend, "big", ("x", "y"), false).await.fails(413);
    assert_eq!(backend.stdout("cat big | tr -d x | wc -c").await, "0\n");

    let small = tree(&backend, None).await.ok();
    assert_eq!(small.get("truncated"), None);
    // One file more than 16 MiB have room for.
    let texts = "for i in $(seq 17); do head -c 1048000 /dev/zero | tr '\\0' x > f$i; done";
    backend.stdout(texts).await;
    let cut = tree(&backend, None).await.ok();
    assert_eq!(cut["truncated"], true);
    // More than 20,000 entries do not fit, either. They are many small messages on one
    // channel.
    backend.stdout("rm f*; seq 20001 | xargs touch").await;
    let cut = tree(&backend, None).await.ok();
    assert_eq!(cut["truncated"], true);
    assert_eq!(backend.stdout("echo goes on").await, "goes on\n");
}
