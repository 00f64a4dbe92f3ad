//! Unusual and unreadable directories, and paths that are not the user's.

use std::time::{Duration, Instant};

use hutch_wire::limits::MAX_PATTERN;
use tonic::Code;

use super::Scene;
use crate::sandbox::{Sandbox, put_agent};

#[tokio::test]
async fn invalid_patterns_and_paths_are_refused() {
    let scene = Scene::new().await;
    let long = "x".repeat(MAX_PATTERN + 1);
    for (pattern, path) in [("a\0b", "."), (&long, "."), ("a", ""), ("a", "a\0b")] {
        for refused in [
            scene.grep_up_to(pattern, path, 0).await,
            scene.find_up_to(pattern, path, 0).await,
        ] {
            assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
        }
    }
    let longest = "x".repeat(MAX_PATTERN);
    assert_eq!(scene.grep(&longest, ".").await.exit_code, 1);
    assert_eq!(scene.find(&longest, ".").await.exit_code, 0);
}

#[tokio::test]
async fn back_references_are_a_named_error() {
    let scene = Scene::new().await;
    let answer = scene.grep("\\(a\\)\\1", ".").await;
    assert_eq!(answer.exit_code, 2);
    assert!(
        answer.err().starts_with("grep: back-references"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn pipes_and_devices_do_not_block() {
    let scene = Scene::new().await;
    scene
        .sh("mkfifo p; mknod zero c 1 5; ln -s p l; ln -s /dev/zero z; echo x > f")
        .await;
    let begin = Instant::now();
    assert_eq!(scene.grep("x", ".").await.out(), "./f:x\n");
    for path in ["p", "zero", "l", "z", "/dev/zero", "/dev/tty"] {
        let answer = scene.grep("x", path).await;
        assert_eq!(answer.exit_code, 2, "{path}");
        let wanted = format!("grep: {path}: is a device, pipe or socket\n");
        assert_eq!(answer.err(), wanted);
        assert_eq!(scene.find("*", path).await.out(), format!("{path}\n"));
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn proc_and_the_agents_own_directory_are_skipped() {
    let root = tempfile::tempdir().unwrap();
    put_agent(root.path());
    let scene = Scene::of(Sandbox::without_an_image(root.path()).await).await;
    std::fs::create_dir_all(root.path().join(".hutch/state")).unwrap();
    std::fs::create_dir_all(root.path().join("job/.hutch")).unwrap();
    for file in [".hutch/state/secret", "job/.hutch/mine", "job/a"] {
        std::fs::write(root.path().join(file), "secret\n").unwrap();
    }
    let answer = scene.grep("^secret$", "/").await;
    assert_eq!(answer.out(), "/job/.hutch/mine:secret\n/job/a:secret\n");
    assert_eq!((answer.exit_code, answer.err()), (0, String::new()));
    let answer = scene.find("*", "/").await;
    // A binary that is not static comes with libraries.
    let found: Vec<String> = answer.out().lines().map(str::to_owned).collect();
    let found: Vec<&String> = found
        .iter()
        .filter(|path| !path.starts_with("/lib"))
        .collect();
    let wanted = [
        "/",
        "/.hutch",
        "/hutch-agent",
        "/job",
        "/job/.hutch",
        "/job/.hutch/mine",
        "/job/a",
        "/proc",
    ];
    assert_eq!(found, wanted);
    for path in [
        "/proc",
        "/proc/self/environ",
        "/.hutch",
        "/.hutch/state",
        "/proc/self/root",
    ] {
        for answer in [scene.grep("x", path).await, scene.find("*", path).await] {
            assert!(
                answer.exit_code > 0 && answer.stdout.is_empty(),
                "{path} {answer:?}"
            );
        }
    }
    let refused = scene.tree("/proc", 1 << 20, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_unreadable_directory_is_reported_and_the_rest_is_searched() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    put_agent(root.path());
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let scene = Scene::of(Sandbox::of_a_user(root.path(), 1234).await).await;
    for file in ["job/a", "job/closed/b", "job/no", "job/z"] {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x\n").unwrap();
    }
    for closed in ["job/closed", "job/no"] {
        let mode = PermissionsExt::from_mode(0o0);
        std::fs::set_permissions(root.path().join(closed), mode).unwrap();
    }
    let answer = scene.grep("x", "/job").await;
    assert_eq!(answer.out(), "/job/a:x\n/job/z:x\n");
    assert_eq!(answer.exit_code, 2);
    assert_eq!(
        answer.err(),
        "grep: /job/closed: Permission denied\ngrep: /job/no: Permission denied\n"
    );
    let answer = scene.find("[a-z]", "/job").await;
    assert_eq!(
        (answer.out().as_str(), answer.exit_code),
        ("/job/a\n/job/z\n", 1)
    );
    assert_eq!(answer.err(), "find: ‘/job/closed’: Permission denied\n");
    let (tree, _) = scene.tree("/job", 1 << 20, 0).await.unwrap();
    assert_eq!(
        tree,
        [" d", " a=x\n", " closed d", " no", " z=x\n"].map(|one| {
            let depth = u32::from(one != " d");
            format!("{depth}{one}")
        })
    );
}

#[tokio::test]
async fn a_directory_mounted_in_itself_is_entered_once_and_a_deep_one_completely() {
    let scene = Scene::new().await;
    let directory = scene.directory.path().display();
    // The mount is in the sandbox's own namespace and ends with it.
    scene
        .sh(&format!(
            "mkdir -p a/b; echo x > a/f; mount --bind '{directory}' a/b"
        ))
        .await;
    let answer = scene.grep("x", ".").await;
    assert_eq!(answer.out(), "./a/f:x\n");
    assert!(answer.err().contains("./a/b: "), "{answer:?}");
    scene.sh("umount a/b").await;
    let deepest = "d/".repeat(2000);
    scene
        .sh(&format!(
            "mkdir -p {deepest}; echo x > {deepest}f; touch d/z"
        ))
        .await;
    let answer = scene.grep("x", "d").await;
    assert_eq!(answer.out(), format!("{deepest}f:x\n"));
    assert_eq!(answer.exit_code, 0);
    let answer = scene.find("[fz]", "d").await;
    assert_eq!(
        answer.out(),
        format!("{deepest}f\nd/z\n"),
        "and back up again"
    );
    assert!(!answer.truncated);
    scene.sh("rm -rf d").await;
}

#[tokio::test]
async fn wide_directories_are_searched_to_the_end() {
    let scene = Scene::new().await;
    scene
        .sh("mkdir w; cd w; seq 40000 | xargs touch; echo x > 39999")
        .await;
    let answer = scene.find("*", "w").await;
    assert_eq!(
        answer.stdout.iter().filter(|byte| **byte == b'\n').count(),
        40001
    );
    assert!(!answer.truncated);
    assert_eq!(scene.grep("x", ".").await.out(), "./w/39999:x\n");
}
