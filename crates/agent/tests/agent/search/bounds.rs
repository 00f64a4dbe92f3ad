//! Limits, long lines, clients that leave and clients that do not read.

use hutch_wire::limits::MAX_LINE;
use hutch_wire::v1::GrepRequest;

use super::Scene;
use crate::wait::eventually;

#[tokio::test]
async fn answers_are_cut_at_the_end_of_a_line() {
    let scene = Scene::new().await;
    for number in 0..50 {
        scene.put(format!("d/{number:02}"), "abc\n".repeat(100));
    }
    let answer = scene.grep_up_to("b", "d", 1000).await.unwrap();
    assert!(answer.truncated && answer.exit_code == 0);
    assert!((990..=1000).contains(&answer.stdout.len()));
    assert!(answer.stdout.ends_with(b":abc\n"));
    let answer = scene.find_up_to("*", "d", 21).await.unwrap();
    assert!(answer.truncated);
    assert_eq!(answer.out(), "d\nd/00\nd/01\nd/02\n");
    let whole = "d/00:abc\n".len() as u64 * 100 * 50;
    let answer = scene.grep_up_to("b", "d", whole).await.unwrap();
    assert!(!answer.truncated && answer.stdout.len() as u64 == whole);
    let answer = scene.grep_up_to("b", "d/00", 2).await.unwrap();
    assert_eq!((answer.out().as_str(), answer.truncated), ("ab", true));
    let answer = scene.grep_up_to("b", "d/none", 5).await.unwrap();
    assert_eq!((answer.err().as_str(), answer.exit_code), ("grep:", 2));
}

#[tokio::test]
async fn long_lines_are_complete_up_to_a_mebibyte_and_then_in_pieces() {
    let scene = Scene::new().await;
    let line = |size: usize| [&vec![b'y'; size - 1][..], b"x\nlast\n"].concat();
    scene.put("f", line(MAX_LINE - 1));
    let answer = scene.grep("x", "f").await;
    assert_eq!(answer.stdout.len(), MAX_LINE);
    assert!(!answer.truncated);
    scene.put("f", line(20 * MAX_LINE));
    let answer = scene.grep("x\\|last", "f").await;
    assert!(answer.truncated && answer.stdout.len() < 2 * MAX_LINE);
    assert!(answer.stdout.ends_with(b"yx\nlast\n"));
}

#[tokio::test]
async fn large_searches_need_little_memory() {
    let scene = Scene::new().await;
    scene
        .sh("mkdir d; cd d; for i in $(seq 20); do yes 'some text that goes on' | head -c 10000000 > $i; done")
        .await;
    let answer = scene.grep("that goes$", ".").await;
    assert_eq!(answer.exit_code, 1);
    let answer = scene.grep_up_to("goes", ".", 50 << 20).await.unwrap();
    assert!(answer.truncated && answer.stdout.len() > 49 << 20);
    let kilobytes = scene.sandbox.resident_kilobytes();
    assert!(kilobytes < 24_000, "{kilobytes} kB");
}

/// CPU time of the agent, in ticks of 10 ms.
fn ticks(scene: &Scene) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", scene.sandbox.pid)).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The threads of the agent that run or want to run.
fn busy_threads(scene: &Scene) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", scene.sandbox.pid)).unwrap();
    let runs = |task: &std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('R'))
    };
    tasks.flatten().filter(runs).count()
}

/// An agent that works is seen to work in at least one of so many looks.
const IDLE_LOOKS: usize = 20;

/// Waits until the agent does nothing. It has no signal for that, so no thread may run
/// at many looks in a row.
async fn idle(scene: &Scene) {
    let mut looks = 0;
    let idle_looks = async || {
        looks = if busy_threads(scene) == 0 {
            looks + 1
        } else {
            0
        };
        looks
    };
    let awaited = format!("no thread of the agent runs at {IDLE_LOOKS} looks in a row");
    eventually(&awaited, idle_looks, |looks| *looks >= IDLE_LOOKS).await;
}

#[tokio::test]
async fn a_search_ends_soon_after_its_client_has_left() {
    let scene = Scene::new().await;
    // Nothing in it matches, so no failing send can end the search.
    scene.sh("truncate -s 1T big").await;
    let mut calls = Vec::new();
    for _ in 0..8 {
        let request = GrepRequest {
            pattern: "x".into(),
            path: scene.path("big"),
            limit: 0,
        };
        let mut search = scene.client.search.clone();
        calls.push(tokio::spawn(
            async move { search.grep(request).await.map(drop) },
        ));
    }
    let before = ticks(&scene);
    let used = async || ticks(&scene) - before;
    eventually("the searches use the processor", used, |used| *used >= 10).await;
    // The searches would take hours. The agent answers others meanwhile.
    scene.sh("true").await;
    for call in calls {
        call.abort();
    }
    idle(&scene).await;
    assert_eq!(scene.find("big", ".").await.out(), "./big\n");
}

#[tokio::test]
async fn clients_that_do_not_read_keep_no_thread() {
    let scene = Scene::new().await;
    scene.sh("yes | head -c 50000000 > f").await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let request = GrepRequest {
            pattern: "y".into(),
            path: scene.path("f"),
            limit: 0,
        };
        let mut client = scene.sandbox.connect().await;
        held.push((client.search.grep(request).await.unwrap(), client));
    }
    idle(&scene).await;
    assert!(scene.sandbox.resident_kilobytes() < 24_000);
    // All search places are taken. A client that leaves frees one.
    held.pop();
    assert_eq!(scene.find("f", ".").await.out(), "./f\n");
}
