//! Unusual and hostile paths.

use std::time::{Duration, Instant};

use hutch_wire::v1::Kind;
use tonic::{Code, Status};

use super::{Scene, code};

/// Makes every call with one path. `file` is the file that the rename to it would move.
async fn all(
    scene: &Scene,
    file: &str,
    path: impl AsRef<[u8]>,
) -> Vec<(&'static str, Result<(), Status>)> {
    let path = path.as_ref();
    vec![
        ("read", scene.read(path).await.map(drop)),
        ("write", scene.write(path, b"1").await.map(drop)),
        ("delete", scene.delete(path).await),
        ("from", scene.rename(path, format!("{file}.x")).await),
        ("to", scene.rename(file, path).await),
        (
            "directory",
            scene.make_directory(path, true).await.map(drop),
        ),
        ("list", scene.list(path).await.map(drop)),
        ("stat", scene.stat(path).await.map(drop)),
    ]
}

#[tokio::test]
async fn paths_that_the_kernel_could_not_take_are_refused_by_every_call() {
    let scene = Scene::new().await;
    scene.write("file", b"1").await.unwrap();
    let long = "a/".repeat(2500);
    let name = "n".repeat(300);
    for path in ["", "\0", "a\0b", &long, &name] {
        for (call, result) in all(&scene, "file", path).await {
            assert_eq!(code(result), Code::InvalidArgument, "{call} {path:?}");
        }
    }
    assert_eq!(scene.list(".").await.unwrap().len(), 1);
}

#[tokio::test]
async fn any_name_that_a_file_may_have_works() {
    let scene = Scene::new().await;
    let names: [&[u8]; 14] = [
        b"-rf",
        b"--help",
        b"a b",
        b"new\nline",
        b"\"'`$(id)`\"",
        b"\\",
        b"*?[x]",
        b"...",
        b" ",
        b"\x01\x1b[31m\x7f",
        "üñí-日本-🦀".as_bytes(),
        b"\xff\xfe",
        b"~",
        b"#{};&|<>!",
    ];
    for name in names {
        scene.write(name, name).await.unwrap();
        assert_eq!(scene.read(name).await.unwrap(), name);
        assert_eq!(scene.kind(name).await, Kind::File);
        let moved = [name, b".moved"].concat();
        scene.rename(name, &moved).await.unwrap();
        assert!(
            scene
                .list(".")
                .await
                .unwrap()
                .contains(&(moved.clone(), Kind::File))
        );
        let refused = scene.rename(name, "x").await.unwrap_err();
        assert!(!refused.message().contains('\n') && refused.code() == Code::NotFound);
        scene.delete(&moved).await.unwrap();
        assert!(scene.make_directory(name, false).await.unwrap());
        assert_eq!(code(scene.write(name, b"").await), Code::FailedPrecondition);
    }
    let deepest = "d/".repeat(2047);
    assert!(scene.make_directory(&deepest, true).await.unwrap());
    scene.write(format!("{deepest}f"), b"1").await.unwrap();
    assert_eq!(scene.read(format!("{deepest}f")).await.unwrap(), b"1");
    scene.sh("rm -rf d").await;
}

#[tokio::test]
async fn a_directory_where_a_file_is_meant_is_refused() {
    let scene = Scene::new().await;
    scene.sh("mkdir d; touch a; ln -s d l").await;
    for path in ["d", "d/", "l", ".", "..", "/", "d/..", "l/"] {
        for refused in [
            scene.read(path).await.unwrap_err(),
            scene.write(path, b"").await.unwrap_err(),
        ] {
            assert_eq!(refused.code(), Code::FailedPrecondition, "{path}");
            assert!(refused.message().contains("is a directory"), "{refused}");
        }
    }
    for path in ["a/", "a/b", "a/b/c"] {
        assert_eq!(
            code(scene.read(path).await),
            Code::FailedPrecondition,
            "{path}"
        );
        assert_eq!(
            code(scene.write(path, b"").await),
            Code::FailedPrecondition,
            "{path}"
        );
    }
    assert_eq!(
        code(scene.write("new/", b"").await),
        Code::FailedPrecondition
    );
    let refused = scene.read("none").await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(
        refused.message(),
        "cannot read \"none\": there is no such file or directory"
    );
}

#[tokio::test]
async fn pipes_devices_and_sockets_are_refused_at_once() {
    let scene = Scene::new().await;
    scene
        .sh(
            "mkfifo p; ln -s p l; mknod zero c 1 5; mknod disk b 7 250; \
              python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'",
        )
        .await;
    let begin = Instant::now();
    let paths = [
        "p",
        "l",
        "zero",
        "disk",
        "s",
        "/dev/null",
        "/dev/zero",
        "/dev/tty",
        "/dev/random",
    ];
    for path in paths {
        let mut refused = vec![scene.read(path).await.unwrap_err()];
        // Device nodes of the machine are not written to.
        if !path.starts_with('/') {
            refused.push(scene.write(path, b"").await.unwrap_err());
        }
        for refused in refused {
            assert_eq!(
                refused.code(),
                Code::FailedPrecondition,
                "{path}: {refused}"
            );
            assert!(
                refused.message().contains("device, pipe or socket"),
                "{refused}"
            );
        }
    }
    // A look at a pipe does not wake its other end.
    let mut writer = scene
        .client
        .start(crate::sandbox::script(
            "w",
            format!(
                "cd '{}'; echo up; echo x > p; echo woken",
                scene.directory.path().display()
            ),
        ))
        .await;
    writer.until("up").await;
    assert_eq!(code(scene.read("p").await), Code::FailedPrecondition);
    assert!(begin.elapsed() < Duration::from_secs(5));
    // Had the agent opened the pipe, the writer would be gone and this would hang.
    assert_eq!(scene.sh("cat p").await, "x\n");
    writer.until("woken").await;
}

#[tokio::test]
async fn a_file_that_becomes_a_pipe_during_a_read_blocks_nothing() {
    let scene = Scene::new().await;
    let text = format!(
        "cd '{}'; echo x > f; mkfifo p; echo up; while :; do ln -f p a; ln -f f a; done",
        scene.directory.path().display()
    );
    let mut swapper = scene.client.start(crate::sandbox::script("s", text)).await;
    swapper.until("up").await;
    for _ in 0..300 {
        match scene.read("a").await {
            Ok(bytes) => assert_eq!(bytes, b"x\n"),
            Err(refused) => assert!(
                matches!(refused.code(), Code::FailedPrecondition | Code::NotFound),
                "{refused}"
            ),
        }
    }
}

#[tokio::test]
async fn links_work_as_for_anybody_and_circles_end() {
    let scene = Scene::new().await;
    let directory = scene.directory.path().display().to_string();
    scene
        .sh(&format!(
            "mkdir -p d/e; echo 1 > d/e/f; ln -s {directory}/d/e abs; ln -s d/../abs/f rel; \
              ln -s o1 o2; ln -s o2 o1; ln -s /etc/hostname far; ln -s none/x n"
        ))
        .await;
    assert_eq!(scene.read("abs/f").await.unwrap(), b"1\n");
    assert_eq!(scene.read("rel").await.unwrap(), b"1\n");
    scene.read("far").await.unwrap();
    assert_eq!(scene.read("abs/../../rel").await.unwrap(), b"1\n");
    for path in ["o1", "o1/x"] {
        let refused = [
            scene.read(path).await.map(drop),
            scene.write(path, b"").await.map(drop),
        ];
        for refused in refused {
            assert_eq!(code(refused), Code::FailedPrecondition, "{path}");
        }
    }
    assert_eq!(code(scene.read("n").await), Code::NotFound);
    scene.write("n", b"made").await.unwrap();
    assert_eq!(scene.read("none/x").await.unwrap(), b"made");
}

#[tokio::test]
async fn the_agent_cannot_be_reached_through_proc() {
    let scene = Scene::new().await;
    scene
        .sh("ln -s /proc/self/environ env; ln -s /proc/self/fd/0 in; ln -s /proc/1/root root")
        .await;
    scene.write("file", b"1").await.unwrap();
    for path in [
        "/proc/self/environ",
        "/proc/1/mem",
        "/proc/self/exe",
        "/proc/thread-self/maps",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/root/etc/hostname",
        "/proc/1/cwd/Cargo.toml",
        "/proc/self/oom_score_adj",
        "/proc/sys/kernel/hostname",
        "env",
        "in",
        "root/etc/hostname",
    ] {
        for (call, result) in all(&scene, "file", path).await {
            // Links in the test's directory may be deleted, renamed and replaced.
            let own = !path.starts_with('/')
                && !path.contains('/')
                && matches!(call, "delete" | "from" | "to" | "directory");
            if call == "stat" || own {
                continue;
            }
            let code = result.map_or_else(|refused| refused.code(), |()| Code::Ok);
            assert!(
                matches!(
                    code,
                    Code::PermissionDenied | Code::FailedPrecondition | Code::NotFound
                ),
                "{call} {path}: {code:?}"
            );
        }
        scene.sh("rm -f env in; ln -s /proc/self/environ env; ln -s /proc/self/fd/0 in; echo 1 > file").await;
    }
    // Links of the machine are only read.
    for path in ["/dev/stdin", "/dev/fd/0", "/proc", "env"] {
        let refused = code(scene.read(path).await);
        assert!(
            matches!(refused, Code::PermissionDenied | Code::FailedPrecondition),
            "{path}: {refused:?}"
        );
    }
    for path in ["/dev/fd", "/proc"] {
        assert_eq!(code(scene.list(path).await), Code::PermissionDenied);
    }
    assert_eq!(code(scene.read("env").await), Code::PermissionDenied);
    assert_eq!(
        code(scene.read("/proc/self/mem").await),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn the_agents_own_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let scene = Scene::in_an_image(root.path()).await;
    std::fs::create_dir_all(root.path().join(".hutch/state/deep")).unwrap();
    std::fs::write(root.path().join(".hutch/state/secret"), "s").unwrap();
    std::os::unix::fs::symlink("/.hutch/state", root.path().join("link")).unwrap();
    std::fs::write(root.path().join("file"), "1").unwrap();
    for path in [
        "/.hutch/state/secret",
        "/.hutch/state/new",
        "/.hutch/./state/deep/../secret",
        "/link/secret",
        "/link/new/deep",
        "/.hutch/bin/hutch-agent",
        "/.hutch",
        "/x/../.hutch/y",
        "/proc/../.hutch/a",
    ] {
        for (call, result) in all(&scene, "/file", path).await {
            if call == "stat" {
                continue;
            }
            let code = code(result);
            let missing = path.starts_with("/x") && call != "write" && call != "directory";
            let right = code == Code::PermissionDenied || missing && code == Code::NotFound;
            assert!(right, "{call} {path}: {code:?}");
        }
    }
    assert_eq!(
        std::fs::read(root.path().join(".hutch/state/secret")).unwrap(),
        b"s"
    );
    assert_eq!(
        std::fs::read_dir(root.path().join(".hutch/state"))
            .unwrap()
            .count(),
        2
    );
    scene.write("/.hutch-not/a", b"1").await.unwrap();
    scene.write("/sub/.hutch/a", b"1").await.unwrap();
}
