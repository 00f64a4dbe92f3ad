//! Numbers, for people; see `measure`.

use std::time::Instant;

use super::Scene;

#[tokio::test]
#[ignore = "prints numbers and asserts nothing"]
async fn speed_of_searches_beside_grep_and_find() {
    let scene = Scene::new().await;
    println!("idle {} kB resident", scene.sandbox.resident_kilobytes());
    let line = "the quick brown fox jumps over the lazy dog, and then it does so again\n";
    for folder in 0..100 {
        for file in 0..100 {
            scene.put(format!("d/{folder}/{file}"), line.repeat(100));
        }
    }
    for pattern in [
        "nothing",
        "qu[aeiou]*z",
        "\\<lazier\\>",
        "[[:upper:]]",
        "fox.*cat",
    ] {
        let begin = Instant::now();
        let ours = scene.grep(pattern, "d").await;
        let took = begin.elapsed().as_millis();
        let begin = Instant::now();
        let real = scene.real_grep(pattern, b"d");
        let real_took = begin.elapsed().as_millis();
        assert_eq!(ours.exit_code, real.exit_code);
        println!("70 MB for {pattern}: {took} ms, grep {real_took} ms");
    }
    let begin = Instant::now();
    scene.find("99", "d").await;
    println!("10,000 names: {} us", begin.elapsed().as_micros());
    let begin = Instant::now();
    for _ in 0..200 {
        scene.grep("x", "none").await;
    }
    println!("nothing to do: {} us", begin.elapsed().as_micros() / 200);
    let begin = Instant::now();
    let (tree, _) = scene.tree("d", 1 << 20, 0).await.unwrap();
    println!("tree of {}: {} ms", tree.len(), begin.elapsed().as_millis());
    println!("then {} kB resident", scene.sandbox.resident_kilobytes());
}
