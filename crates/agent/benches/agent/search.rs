//! Searches beside GNU grep, and the cost of names, trees and empty searches.

#[path = "../../tests/agent/search/scene.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod scene;

use std::time::Instant;

use scene::Scene;

const PATTERNS: [&str; 5] = [
    "nothing",
    "qu[aeiou]*z",
    "\\<lazier\\>",
    "[[:upper:]]",
    "fox.*cat",
];
const EMPTY_SEARCHES: u32 = 200;

/// Prints all figures.
pub async fn measure() {
    let scene = Scene::new().await;
    println!("idle {} kB resident", scene.sandbox.resident_kilobytes());
    fill(&scene);
    for pattern in PATTERNS {
        beside_grep(&scene, pattern).await;
    }
    let begin = Instant::now();
    scene.find("99", "d").await;
    println!("10,000 names: {} us", begin.elapsed().as_micros());
    let begin = Instant::now();
    for _ in 0..EMPTY_SEARCHES {
        scene.grep("x", "none").await;
    }
    let each = begin.elapsed() / EMPTY_SEARCHES;
    println!("search of a missing path: {} us", each.as_micros());
    let begin = Instant::now();
    let (tree, _) = scene.tree("d", 1 << 20, 0).await.unwrap();
    let took = begin.elapsed().as_millis();
    println!("tree of {} entries: {took} ms", tree.len());
    println!("then {} kB resident", scene.sandbox.resident_kilobytes());
}

/// 10,000 files with 70 MB in 100 directories.
fn fill(scene: &Scene) {
    let line = "the quick brown fox jumps over the lazy dog, and then it does so again\n";
    for directory in 0..100 {
        for file in 0..100 {
            scene.put(format!("d/{directory}/{file}"), line.repeat(100));
        }
    }
}

async fn beside_grep(scene: &Scene, pattern: &str) {
    let begin = Instant::now();
    let ours = scene.grep(pattern, "d").await;
    let took = begin.elapsed().as_millis();
    let begin = Instant::now();
    let real = scene.real_grep(pattern, b"d");
    let real_took = begin.elapsed().as_millis();
    assert_eq!(ours.exit_code, real.exit_code);
    println!("70 MB for {pattern}: {took} ms, GNU grep {real_took} ms");
}
