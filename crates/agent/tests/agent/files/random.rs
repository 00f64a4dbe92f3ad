//! Random files with random names, compared with a map. `HUTCH_SEED` with the printed seed
//! repeats a failure.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Scene;

/// splitmix64.
pub struct Random(u64);

impl Random {
    pub fn seeded() -> Self {
        let given = std::env::var("HUTCH_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = given.unwrap_or(clock.as_nanos() as u64);
        println!("HUTCH_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> usize {
        (self.next() % bound) as usize
    }

    pub fn name(&mut self) -> Vec<u8> {
        const PIECES: [&[u8]; 12] = [
            b"-",
            b"a",
            b"\n",
            b"'",
            b"\"",
            b" ",
            b".",
            b"$x",
            b"\\",
            "ü".as_bytes(),
            "日本🦀".as_bytes(),
            b"*",
        ];
        let mut name = Vec::new();
        for _ in 0..=self.below(8) {
            match self.below(3) {
                0 => name.push(self.below(256) as u8),
                _ => name.extend_from_slice(PIECES[self.below(12)]),
            }
        }
        name.retain(|byte| !matches!(byte, 0 | b'/'));
        // The letter at the end excludes `.`, `..` and the empty name.
        name.push(b'z');
        name
    }

    pub fn path(&mut self) -> Vec<u8> {
        let mut path = self.name();
        for _ in 0..self.below(3) {
            // A directory never has the name of a file.
            path.push(b'D');
            path.extend(if self.below(4) == 0 {
                b"//".as_slice()
            } else {
                b"/"
            });
            path.extend(self.name());
        }
        path
    }

    fn bytes(&mut self) -> Vec<u8> {
        let bound = [1, 10, 5_000, 70_000, 400_000][self.below(5)];
        (0..self.below(bound)).map(|_| self.next() as u8).collect()
    }
}

#[tokio::test]
async fn random_files_are_kept_as_in_a_map() {
    let mut random = Random::seeded();
    let scene = Scene::new().await;
    let mut expected = BTreeMap::new();
    for _ in 0..300 {
        let known = expected
            .keys()
            .nth(random.below(expected.len() as u64 + 1))
            .cloned();
        match (random.below(6), known) {
            (0..=2, _) | (_, None) => {
                let (path, bytes) = (random.path(), random.bytes());
                let reply = scene.write(&path, &bytes).await.unwrap();
                assert_eq!(reply.created, expected.insert(path, bytes).is_none());
            }
            (3, Some(path)) => {
                let bytes = random.bytes();
                assert!(!scene.write(&path, &bytes).await.unwrap().created);
                expected.insert(path, bytes);
            }
            (4, Some(path)) => {
                let to = random.name();
                scene.rename(&path, &to).await.unwrap();
                let bytes = expected.remove(&path).unwrap();
                expected.insert(to, bytes);
            }
            (_, Some(path)) => {
                scene.delete(&path).await.unwrap();
                expected.remove(&path);
            }
        }
    }
    for (path, bytes) in &expected {
        let shown = String::from_utf8_lossy(path);
        assert!(scene.read(path).await.unwrap() == *bytes, "{shown:?}");
        assert_eq!(scene.stat(path).await.unwrap().size, bytes.len() as u64);
    }
    let found = scene
        .sh("find . -type f -print0 | tr -dc '\\0' | wc -c")
        .await;
    assert_eq!(
        found.trim(),
        expected.len().to_string(),
        "nothing else is there"
    );
}
