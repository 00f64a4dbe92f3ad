//! Numbers, for people; see `measure`.

use std::time::Instant;

use super::Scene;

#[tokio::test]
#[ignore = "prints numbers and asserts nothing"]
async fn latency_and_throughput_of_files() {
    let scene = Scene::new().await;
    println!("idle {} kB resident", scene.sandbox.resident_kilobytes());
    let mut times = [vec![], vec![], vec![], vec![]];
    let big = vec![7; 5 << 20];
    for run in 0..300 {
        let mut took =
            |which: usize, begin: Instant| times[which].push(begin.elapsed().as_micros());
        let begin = Instant::now();
        scene.write("small", b"some text").await.unwrap();
        took(0, begin);
        let begin = Instant::now();
        scene.read("small").await.unwrap();
        took(1, begin);
        if run < 30 {
            let begin = Instant::now();
            scene.write("big", &big).await.unwrap();
            took(2, begin);
            let begin = Instant::now();
            scene.read("big").await.unwrap();
            took(3, begin);
        }
    }
    for (name, times) in ["write 9 B", "read 9 B", "write 5 MiB", "read 5 MiB"]
        .iter()
        .zip(&mut times)
    {
        times.sort_unstable();
        let (middle, late) = (times[times.len() / 2], times[times.len() * 95 / 100]);
        println!("{name}: p50 {middle} us, p95 {late} us");
    }
    println!("then {} kB resident", scene.sandbox.resident_kilobytes());
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    println!(
        "6 s later {} kB resident",
        scene.sandbox.resident_kilobytes()
    );
}
