//! Random trees and patterns, compared with GNU grep and find. `HUTCH_SEED` with the
//! printed seed repeats a failure.

use super::{Scene, sorted};
use crate::files::random::Random;

const PIECES: [&str; 40] = [
    "a",
    "b",
    "ab",
    "x",
    ".",
    "*",
    "\\*",
    "\\+",
    "\\?",
    "\\{1,2\\}",
    "\\{2\\}",
    "\\{,1\\}",
    "\\(",
    "\\)",
    "\\|",
    "^",
    "$",
    "[ab]",
    "[^a]",
    "[]x]",
    "[[:alpha:]]",
    "[^[:space:]b]",
    "[a-c]",
    "\\w",
    "\\W",
    "\\s",
    "\\S",
    "\\<",
    "\\>",
    "-",
    " ",
    "é",
    "\n",
    "'",
    "$(a)",
    "{",
    "+",
    "|",
    "\\.",
    "\\$",
];

fn pattern(random: &mut Random) -> String {
    let mut pattern = String::new();
    for _ in 0..=random.below(7) {
        pattern.push_str(PIECES[random.below(PIECES.len() as u64)]);
    }
    // Repeating an assertion has no meaning, and programs differ in it.
    const MARKS: [&str; 4] = ["\\<", "\\>", "^", "\\("];
    const REPEATS: [&str; 6] = ["*", "\\+", "\\?", "\\{1,2\\}", "\\{2\\}", "\\{,1\\}"];
    let repeated = |pattern: &str| {
        let pairs = MARKS
            .iter()
            .flat_map(|mark| REPEATS.iter().map(move |how| (mark, how)));
        let mut pairs = pairs.map(|(mark, how)| (format!("{mark}{how}"), *mark));
        pairs.find(|(pair, _)| pattern.contains(pair.as_str()))
    };
    // It ends: each round makes the pattern shorter.
    while let Some((pair, mark)) = repeated(&pattern) {
        pattern = pattern.replace(&pair, mark);
    }
    pattern
}

fn text(random: &mut Random) -> Vec<u8> {
    const WORDS: [&[u8]; 16] = [
        b"a",
        b"b",
        b"ab",
        b"x",
        b" ",
        b"\n",
        b"\n",
        b"-",
        "é".as_bytes(),
        b"'",
        b"$(a)",
        b"{",
        b"+",
        b"c|",
        b".",
        b"_",
    ];
    let mut text = Vec::new();
    for _ in 0..random.below(60) {
        text.extend_from_slice(WORDS[random.below(16)]);
    }
    match random.below(12) {
        0 => text.push(0),
        1 => text.extend_from_slice(b"ab \xff \nab"),
        _ => {}
    }
    text
}

fn name(random: &mut Random) -> String {
    const PIECES: [&str; 18] = [
        "a",
        "z",
        "*",
        "?",
        "[a-z]",
        "[!a]",
        "[",
        "]",
        "\\",
        "\\*",
        "é",
        "-",
        ".",
        "\n",
        "[[:alpha:]]",
        "$x",
        "[]z]",
        "'",
    ];
    (0..=random.below(4))
        .map(|_| PIECES[random.below(18)])
        .collect()
}

#[tokio::test]
async fn random_searches_answer_as_grep_and_find_do() {
    let mut random = Random::seeded();
    let scene = Scene::new().await;
    for _ in 0..60 {
        scene.put(random.path(), text(&mut random));
    }
    for _ in 0..300 {
        let pattern = pattern(&mut random);
        let (ours, real) = (
            scene.grep(&pattern, ".").await,
            scene.real_grep(&pattern, b"."),
        );
        let context = format!("{pattern:?}: {} {}", ours.err(), real.err());
        assert_eq!(ours.exit_code, real.exit_code, "{context}");
        assert_eq!(sorted(&ours.stdout), sorted(&real.stdout), "{context}");
        let name = name(&mut random);
        let (ours, real) = (scene.find(&name, ".").await, scene.real_find(&name, b"."));
        assert_eq!(sorted(&ours.stdout), sorted(&real.stdout), "{name:?}");
        assert_eq!(ours.exit_code, real.exit_code, "{name:?}");
    }
}
