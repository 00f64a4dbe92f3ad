//! Files appear completely or not at all, and streams need little memory.

use hutch_wire::limits::CHUNK;
use hutch_wire::v1::write_input::Input;
use hutch_wire::v1::{Kind, ReadRequest, WriteEnd, WriteInput, exec_input};
use tokio::sync::mpsc::Sender;
use tonic::Code;

use super::{Scene, code, input};
use crate::sandbox::script;
use crate::wait::{eventually, in_time, next_message};

async fn send(sender: &Sender<WriteInput>, input: WriteInput) {
    let sending = sender.send(input);
    in_time("the agent takes an input", sending).await.unwrap();
}

fn piece(byte: u8) -> WriteInput {
    input(Input::Data(vec![byte; CHUNK].into()))
}

/// Waits until the directory has no more than `count` entries.
async fn settled(scene: &Scene, count: usize) {
    let awaited = format!("at most {count} entries are left in the directory");
    eventually(
        &awaited,
        async || entries(scene).await,
        |seen| *seen <= count,
    )
    .await;
}

/// Waits until the directory has more or fewer than `count` entries: then a draft exists.
async fn drafted(scene: &Scene, count: usize) {
    let awaited = format!("a draft is beside the {count} entries of the directory");
    eventually(
        &awaited,
        async || entries(scene).await,
        |seen| *seen != count,
    )
    .await;
}

async fn entries(scene: &Scene) -> usize {
    scene.list(".").await.unwrap().len()
}

#[tokio::test]
async fn nothing_is_seen_before_the_end() {
    let scene = Scene::new().await;
    scene.write("old", b"old").await.unwrap();
    for path in ["old", "a/b/new"] {
        let before = scene.list(".").await.unwrap().len();
        let (sender, call) = scene.writing(path);
        for _ in 0..16 {
            send(&sender, piece(1)).await;
        }
        drafted(&scene, before).await;
        assert_eq!(
            scene.kind("a").await,
            Kind::Missing,
            "no directory is made before"
        );
        assert_eq!(scene.read("old").await.unwrap(), b"old");
        send(&sender, input(Input::End(WriteEnd {}))).await;
        assert_eq!(call.await.unwrap().unwrap().size, 16 * CHUNK as u64);
        assert_eq!(scene.read(path).await.unwrap(), vec![1; 16 * CHUNK]);
        scene.write("old", b"old").await.unwrap();
    }
    settled(&scene, 2).await;
}

#[tokio::test]
async fn a_write_that_breaks_off_leaves_nothing() {
    let scene = Scene::new().await;
    scene.write("a", b"old").await.unwrap();
    for pieces in [0, 1, 16] {
        // The stream ends without its `end`.
        let (sender, call) = scene.writing("a");
        for _ in 0..pieces {
            send(&sender, piece(1)).await;
        }
        drop(sender);
        assert_eq!(code(call.await.unwrap()), Code::Aborted);
        // The client leaves.
        let (sender, call) = scene.writing("x/b");
        for _ in 0..pieces {
            send(&sender, piece(1)).await;
        }
        if pieces > 8 {
            drafted(&scene, 1).await;
        }
        call.abort();
        settled(&scene, 1).await;
    }
    assert_eq!(scene.read("a").await.unwrap(), b"old");
}

#[tokio::test]
async fn a_channel_that_is_cut_leaves_nothing() {
    let mut scene = Scene::new().await;
    let (sender, call) = scene.writing("a");
    for _ in 0..16 {
        send(&sender, piece(1)).await;
    }
    drafted(&scene, 0).await;
    // Nothing announces the end: the command kills the channel's `connect` and everything
    // else.
    let killing = exec_input::Input::Start(script("kill", "kill -9 -1"));
    if let Ok(call) = scene.sandbox.connect().await.call(killing).await {
        let _ = call.finish().await;
    }
    assert!(call.await.unwrap().is_err());
    scene.client = scene.sandbox.connect().await;
    settled(&scene, 0).await;
}

#[tokio::test]
async fn concurrent_writers_leave_one_complete_file() {
    let scene = Scene::new().await;
    for round in 0..5 {
        let calls = (0..8_u8).map(|writer| {
            let scene = &scene;
            async move { scene.write("a", &vec![writer; 300_000]).await.unwrap() }
        });
        let mut calls: Vec<_> = calls.map(Box::pin).collect();
        let all = std::future::poll_fn(|context| {
            calls.retain_mut(|call| call.as_mut().poll(context).is_pending());
            if calls.is_empty() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        });
        all.await;
        let bytes = scene.read("a").await.unwrap();
        assert_eq!(bytes.len(), 300_000, "round {round}");
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "round {round}");
    }
    settled(&scene, 1).await;
}

#[tokio::test]
async fn a_full_disk_is_reported_and_changes_nothing() {
    let scene = Scene::new().await;
    scene.sh("mkdir t; mount -t tmpfs -o size=1m none t").await;
    scene.write("t/a", b"old").await.unwrap();
    for path in ["t/a", "t/b", "t/c/d"] {
        let refused = scene.write(path, &vec![1; 2 << 20]).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("no space is left"), "{refused}");
    }
    let left = scene.sh("cat t/a; ls -A t; find t | wc -l").await;
    assert_eq!(left, "olda\n2\n");
    scene.write("t/b", &vec![1; 500_000]).await.unwrap();
}

#[tokio::test]
async fn sixty_four_megabytes_pass_through_little_memory() {
    let scene = Scene::new().await;
    scene.sh("mkdir t; mount -t tmpfs none t").await;
    let before = scene.sandbox.resident_kilobytes();
    let (sender, call) = scene.writing("t/a");
    let mut most = before;
    for number in 0..1024 {
        send(&sender, piece(number as u8)).await;
        if number % 32 == 0 {
            most = most.max(scene.sandbox.resident_kilobytes());
        }
    }
    send(&sender, input(Input::End(WriteEnd {}))).await;
    assert_eq!(call.await.unwrap().unwrap().size, 64 << 20);
    let path = scene.path("t/a");
    let mut files = scene.client.files.clone();
    let outputs = files.read_file(ReadRequest { path, limit: 0 }).await;
    let mut outputs = outputs.unwrap().into_inner();
    let mut read = 0;
    while let Some(output) = next_message(&mut outputs).await.unwrap() {
        if let Some(hutch_wire::v1::read_output::Output::Data(bytes)) = output.output {
            assert!(bytes.iter().all(|byte| *byte == (read / CHUNK) as u8));
            read += bytes.len();
            assert!(read <= 64 << 20, "{read} bytes");
            if read % (4 << 20) == 0 {
                most = most.max(scene.sandbox.resident_kilobytes());
            }
        }
    }
    assert_eq!(read, 64 << 20);
    assert!(
        most < before + 8192,
        "{before} kB before, {most} kB at most"
    );
}

#[tokio::test]
async fn readers_that_do_not_read_hold_little_memory_and_delay_no_other() {
    let scene = Scene::new().await;
    scene.sh("head -c 8000000 /dev/zero > big").await;
    let before = scene.sandbox.resident_kilobytes();
    let mut idle = Vec::new();
    for _ in 0..20 {
        let path = scene.path("big");
        // One channel each, because a channel whose client does not read is full at once.
        let client = scene.sandbox.connect().await;
        let request = ReadRequest { path, limit: 0 };
        let outputs = client.files.clone().read_file(request).await.unwrap();
        idle.push((client, outputs));
    }
    scene.write("a", b"1").await.unwrap();
    assert_eq!(scene.read("a").await.unwrap(), b"1");
    let after = scene.sandbox.resident_kilobytes();
    assert!(
        after < before + 30_000,
        "{before} kB before, {after} kB after"
    );
}
