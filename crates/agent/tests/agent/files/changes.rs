//! Directories, renames, deletions, `Stat` and `List`.

use hutch_wire::v1::Kind;
use tonic::Code;

use super::{Scene, code};

#[tokio::test]
async fn directories_are_made_one_or_many() {
    let scene = Scene::new().await;
    assert!(scene.make_directory("a", false).await.unwrap());
    assert_eq!(
        code(scene.make_directory("a", false).await),
        Code::AlreadyExists
    );
    assert!(!scene.make_directory("a", true).await.unwrap());
    assert_eq!(
        code(scene.make_directory("b/c", false).await),
        Code::NotFound
    );
    assert!(scene.make_directory("b/c/d/", true).await.unwrap());
    assert_eq!(scene.kind("b/c/d").await, Kind::Folder);
    scene.write("file", b"1").await.unwrap();
    for recursive in [false, true] {
        assert_eq!(
            code(scene.make_directory("file", recursive).await),
            Code::AlreadyExists
        );
        let below = code(scene.make_directory("file/x", recursive).await);
        assert_eq!(below, Code::FailedPrecondition);
        for there in [".", "/", "a/.."] {
            let made = scene.make_directory(there, recursive).await;
            assert_eq!(made.is_ok(), recursive, "{there}");
        }
    }
}

#[tokio::test]
async fn a_rename_moves_files_directories_and_links() {
    let scene = Scene::new().await;
    scene
        .sh("mkdir -p d/e; echo 1 > a; ln -s nowhere l; echo 2 > old")
        .await;
    scene.rename("a", "d/b").await.unwrap();
    assert_eq!(scene.read("d/b").await.unwrap(), b"1\n");
    assert_eq!(scene.kind("a").await, Kind::Missing);
    scene.rename("d/b", "old").await.unwrap();
    assert_eq!(scene.read("old").await.unwrap(), b"1\n");
    scene.rename("d/", "f/").await.unwrap();
    assert_eq!(scene.kind("f/e").await, Kind::Folder);
    scene.rename("l", "m").await.unwrap();
    assert_eq!(scene.sh("readlink m").await, "nowhere\n");
    scene.rename("old", "old").await.unwrap();
    scene.rename("f", "f").await.unwrap();
}

#[tokio::test]
async fn a_rename_that_makes_no_sense_changes_nothing() {
    let scene = Scene::new().await;
    scene.sh("mkdir -p d/e empty; echo 1 > a").await;
    for (from, to, expected) in [
        ("none", "b", Code::NotFound),
        ("a", "none/b", Code::NotFound),
        ("a", "d", Code::AlreadyExists),
        ("d", "empty", Code::AlreadyExists),
        ("d", "a", Code::AlreadyExists),
        ("a", "b/", Code::FailedPrecondition),
        ("a/", "b", Code::FailedPrecondition),
        ("a/x", "b", Code::FailedPrecondition),
        ("d", "d/e/f", Code::InvalidArgument),
        (".", "b", Code::InvalidArgument),
        ("d/..", "b", Code::InvalidArgument),
        ("/", "b", Code::InvalidArgument),
    ] {
        let refused = scene.rename(from, to).await.unwrap_err();
        assert_eq!(refused.code(), expected, "{from} {to}: {refused}");
        assert!(
            refused.message().contains(&format!("{from:?} to {to:?}")),
            "{refused}"
        );
    }
    assert_eq!(
        scene.sh("find . | sort | tr '\n' ' '").await,
        ". ./a ./d ./d/e ./empty "
    );
}

#[tokio::test]
async fn a_rename_reaches_other_file_systems() {
    let scene = Scene::new().await;
    scene
        .sh(
            "mkdir -p t d; mount -t tmpfs none t; head -c 700000 /dev/urandom > a; cp -p a t/same; \
              chmod 640 a; chown 12:34 a; touch -d @1000000000.5 a; echo old > t/b; ln -s some l; \
              ln -s other t/k; mkfifo p",
        )
        .await;
    let before = scene.sh("stat -c '%a %u %g %Y' a").await;
    scene.rename("a", "t/b").await.unwrap();
    assert_eq!(
        scene
            .sh("stat -c '%a %u %g %Y' t/b; cmp t/b t/same; ls t")
            .await,
        before + "b\nk\nsame\n"
    );
    assert_eq!(scene.kind("a").await, Kind::Missing);
    scene.rename("l", "t/l").await.unwrap();
    assert_eq!(scene.sh("readlink t/l").await, "some\n");
    scene.rename("t/l", "k").await.unwrap();
    scene.rename("k", "t/k").await.unwrap();
    assert_eq!(scene.sh("readlink t/k").await, "some\n");
    for special in ["d", "p"] {
        assert_eq!(
            code(scene.rename(special, "t/x").await),
            Code::FailedPrecondition
        );
    }
    scene.sh("test -d d; test -p p; test ! -e t/x").await;
    // A full disk leaves the original, and no part of a copy.
    scene
        .sh("mkdir s; mount -t tmpfs -o size=256k none s; head -c 500000 /dev/zero > big")
        .await;
    assert_eq!(
        code(scene.rename("big", "s/big").await),
        Code::ResourceExhausted
    );
    assert_eq!(scene.sh("ls -A s; stat -c %s big").await, "500000\n");
}

#[tokio::test]
async fn files_are_deleted_and_directories_are_not() {
    let scene = Scene::new().await;
    scene
        .sh("mkdir d; touch a d/b; ln -s d l; ln -s none n; mkfifo p")
        .await;
    for path in ["a", "l", "n", "p"] {
        scene.delete(path).await.unwrap();
        assert_eq!(code(scene.delete(path).await), Code::NotFound, "{path}");
    }
    for directory in ["d", "d/", ".", "..", "/", "d/."] {
        let refused = scene.delete(directory).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("directory"), "{refused}");
    }
    assert_eq!(code(scene.delete("d/b/").await), Code::FailedPrecondition);
    assert_eq!(
        scene.sh("find . | sort | tr '\n' ' '").await,
        ". ./d ./d/b "
    );
}

#[tokio::test]
async fn stat_describes_every_kind() {
    let scene = Scene::new().await;
    scene
        .sh(
            "mkdir d; printf 123 > a; chmod 751 a; touch -d @1000000000.25 a; ln -s a l; mkfifo p; \
              ln -s none n; ln -s o o",
        )
        .await;
    for path in ["a", "l"] {
        let found = scene.stat(path).await.unwrap();
        assert_eq!(
            (found.kind(), found.size, found.mode),
            (Kind::File, 3, 0o751)
        );
        assert_eq!(found.modified_us, 1_000_000_000_250_000);
    }
    for (path, kind) in [
        ("d", Kind::Folder),
        ("d/", Kind::Folder),
        ("/", Kind::Folder),
        ("p", Kind::Special),
        ("/dev/null", Kind::Special),
        ("none", Kind::Missing),
        ("a/", Kind::Missing),
        ("a/b", Kind::Missing),
        ("none/b", Kind::Missing),
        ("n", Kind::Missing),
        ("o", Kind::Missing),
    ] {
        assert_eq!(scene.kind(path).await, kind, "{path}");
    }
}

#[tokio::test]
async fn a_list_has_every_entry_once() {
    let scene = Scene::new().await;
    scene
        .sh(
            "mkdir d e; touch .hidden; ln -s none l; mkfifo p; ln -s many m; mkdir many; cd many; \
              seq -f 'file-%05g' 5000 | xargs touch",
        )
        .await;
    let names = |listed: Vec<(Vec<u8>, Kind)>| -> Vec<(String, Kind)> {
        let text = |name| String::from_utf8(name).unwrap();
        listed
            .into_iter()
            .map(|(name, kind)| (text(name), kind))
            .collect()
    };
    let expected = [
        (".hidden", Kind::File),
        ("d", Kind::Folder),
        ("e", Kind::Folder),
        ("l", Kind::Link),
        ("m", Kind::Link),
        ("many", Kind::Folder),
        ("p", Kind::Special),
    ];
    let listed = names(scene.list(".").await.unwrap());
    assert_eq!(
        listed,
        expected.map(|(name, kind)| (name.to_string(), kind))
    );
    let many = names(scene.list("m").await.unwrap());
    assert_eq!(many.len(), 5000);
    assert_eq!(many[4999].0, "file-05000");
    assert!(scene.list("d").await.unwrap().is_empty());
    assert_eq!(code(scene.list("none").await), Code::NotFound);
    assert_eq!(code(scene.list(".hidden").await), Code::FailedPrecondition);
    assert_eq!(code(scene.list("p").await), Code::FailedPrecondition);
}
