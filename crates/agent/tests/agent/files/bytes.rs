//! Reading and writing files.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use hutch_wire::v1::Kind;
use tonic::Code;

use super::{Scene, code};

#[tokio::test]
async fn a_written_file_is_read_back() {
    let scene = Scene::new().await;
    for size in [0, 1, 65_535, 65_536, 65_537, 131_072, 262_144, 1_000_000] {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
        let reply = scene.write("a", &bytes).await.unwrap();
        assert_eq!(reply.size, size as u64);
        assert_eq!(reply.created, size == 0);
        let (start, read) = scene.read_up_to("a", 0).await.unwrap();
        assert!(read == bytes, "{size} bytes");
        assert_eq!(start.size, size as u64);
    }
}

#[tokio::test]
async fn relative_paths_begin_at_the_base_and_absolute_ones_do_not() {
    let scene = Scene::new().await;
    scene.make_directory("sub", false).await.unwrap();
    scene.write("sub/../b", b"1").await.unwrap();
    assert_eq!(std::fs::read(scene.outside("b")).unwrap(), b"1");
    let absolute = scene.outside("b").display().to_string();
    assert_eq!(scene.read(&absolute).await.unwrap(), b"1");
    let mut path = scene.path("Cargo.toml").unwrap();
    path.base = "".into();
    let mut files = scene.client.files.clone();
    let request = hutch_wire::v1::StatRequest { path: Some(path) };
    let found = files.stat(request).await.unwrap().into_inner();
    assert_eq!(found.kind(), Kind::File, "in the agent's own directory");
}

#[tokio::test]
async fn parents_are_made() {
    let scene = Scene::new().await;
    scene.write("x/y/../z/file", b"1").await.unwrap();
    assert_eq!(scene.read("x/z/file").await.unwrap(), b"1");
    assert_eq!(scene.kind("x/y").await, Kind::Folder);
    assert_eq!(scene.list(".").await.unwrap().len(), 1, "nothing else");
}

#[tokio::test]
async fn a_new_file_gets_the_usual_mode_and_an_old_one_keeps_its_own() {
    let scene = Scene::new().await;
    let usual = scene.sh("touch usual; stat -c %a usual").await;
    scene.write("new", b"1").await.unwrap();
    assert_eq!(scene.sh("stat -c %a new").await, usual);
    for mode in [0o600, 0o640, 0o755, 0o4711, 0o444] {
        let outside = scene.outside("kept");
        std::fs::write(&outside, "old").unwrap();
        std::os::unix::fs::chown(&outside, Some(1234), Some(4321)).unwrap();
        std::fs::set_permissions(&outside, PermissionsExt::from_mode(mode)).unwrap();
        assert!(!scene.write("kept", b"new").await.unwrap().created);
        let meta = std::fs::metadata(&outside).unwrap();
        assert_eq!(meta.mode() & 0o7777, mode);
        assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
        assert_eq!(scene.read_up_to("kept", 0).await.unwrap().0.mode, mode);
        std::fs::remove_file(&outside).unwrap();
    }
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_with_its_size() {
    let scene = Scene::new().await;
    scene.write("a", &[7; 1000]).await.unwrap();
    assert_eq!(scene.read_up_to("a", 1000).await.unwrap().1.len(), 1000);
    let refused = scene.read_up_to("a", 999).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("1000 bytes"), "{refused}");
    assert!(refused.message().contains("\"a\""), "{refused}");
}

#[tokio::test]
async fn through_a_link_the_file_is_replaced_and_the_link_stays() {
    let scene = Scene::new().await;
    scene.sh("mkdir far; echo old > far/file; chmod 640 far/file; ln -s far/file near; ln -s near link")
        .await;
    scene.write("link", b"new").await.unwrap();
    let seen = scene
        .sh("readlink link near; cat far/file; stat -c ' %a' far/file; ls far")
        .await;
    assert_eq!(seen, "near\nfar/file\nnew 640\nfile\n");
    scene.sh("ln -s far/made dangling").await;
    scene.write("dangling", b"made").await.unwrap();
    assert_eq!(scene.read("far/made").await.unwrap(), b"made");
    assert_eq!(scene.read("dangling").await.unwrap(), b"made");
}

#[tokio::test]
async fn a_running_command_does_not_block_files() {
    let scene = Scene::new().await;
    let busy = crate::sandbox::script("busy", "while :; do :; done");
    let _call = scene.client.start(busy).await;
    scene.write("a", b"1").await.unwrap();
    assert_eq!(scene.read("a").await.unwrap(), b"1");
}

#[tokio::test]
async fn a_durable_write_is_written_too() {
    let scene = Scene::new().await;
    use hutch_wire::v1::write_input::Input;
    use hutch_wire::v1::{WriteEnd, WriteStart};
    let (path, durable) = (scene.path("d/a"), true);
    let inputs = [
        Input::Start(WriteStart { path, durable }),
        Input::Data("1".into()),
        Input::End(WriteEnd {}),
    ];
    let mut files = scene.client.files.clone();
    files
        .write_file(tokio_stream::iter(inputs.map(super::input)))
        .await
        .unwrap();
    assert_eq!(scene.read("d/a").await.unwrap(), b"1");
}

#[tokio::test]
async fn a_read_only_file_system_is_refused() {
    let scene = Scene::new().await;
    scene.sh("mkdir ro; echo 1 > ro/a; mount -t tmpfs none ro; echo 1 > ro/a; mount -o remount,ro ro").await;
    for path in ["ro/a", "ro/b", "ro/c/d"] {
        let refused = scene.write(path, b"2").await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("read-only"), "{refused}");
        assert!(refused.message().contains(path), "{refused}");
    }
    assert_eq!(code(scene.delete("ro/a").await), Code::PermissionDenied);
    assert_eq!(
        code(scene.make_directory("ro/d", true).await),
        Code::PermissionDenied
    );
    assert_eq!(scene.read("ro/a").await.unwrap(), b"1\n");
}

/// Ends a sandbox that has changed its user. The kernel drops the setting that ends it with
/// its parent.
struct Ending(i32);

impl Drop for Ending {
    fn drop(&mut self) {
        let pid = self.0.to_string();
        let _ = std::process::Command::new("kill")
            .args(["-KILL", &pid])
            .status();
    }
}

#[tokio::test]
async fn an_ordinary_user_gets_no_further_than_the_modes_say() {
    let root = tempfile::tempdir().unwrap();
    let put = |name: &str, owner: u32, mode: u32| {
        let path = root.path().join(name);
        std::os::unix::fs::chown(&path, Some(owner), Some(owner)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    put(".", 0, 0o755);
    std::fs::create_dir(root.path().join("mine")).unwrap();
    for name in ["closed", "theirs", "fixed", "mine/theirs", "mine/fixed"] {
        std::fs::write(root.path().join(name), "old").unwrap();
    }
    put("closed", 0, 0o600);
    put("fixed", 1000, 0o644);
    put("mine", 1000, 0o755);
    put("mine/theirs", 0, 0o4666);
    put("mine/fixed", 1000, 0o444);
    let scene = Scene::of_a_user(root.path(), 1000).await;
    let _ending = Ending(scene.sandbox.pid);
    for path in ["/closed", "/fixed", "/new", "/new/x", "/mine/fixed"] {
        let refused = scene.write(path, b"new").await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{path}");
        assert_eq!(
            refused.message(),
            format!("cannot write {path:?}: no permission")
        );
    }
    assert_eq!(code(scene.read("/closed").await), Code::PermissionDenied);
    assert_eq!(code(scene.delete("/theirs").await), Code::PermissionDenied);
    assert_eq!(
        code(scene.rename("/theirs", "/mine/x").await),
        Code::PermissionDenied
    );
    assert_eq!(
        code(scene.make_directory("/d", true).await),
        Code::PermissionDenied
    );
    // The agent may not set the owner. So it drops the set-uid bit, which would lend others
    // the rights of the new owner.
    scene.write("/mine/theirs", b"new").await.unwrap();
    let meta = std::fs::metadata(root.path().join("mine/theirs")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (1000, 0o666));
    assert_eq!(
        std::fs::read_dir(root.path().join("mine")).unwrap().count(),
        2
    );
}
