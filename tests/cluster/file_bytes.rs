//! Files byte for byte: any content under any name, several writers at once, and what a new
//! content keeps of the old file.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use futures::future::join_all;
use serde_json::json;

use crate::support::{Tenant, World};

/// splitmix64. A failure is repeated with the printed seed in `HUTCH_SEED`.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let given = std::env::var("HUTCH_SEED").ok();
        let given = given.and_then(|text| text.parse().ok());
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

    fn below(&mut self, bound: u64) -> usize {
        (self.next() % bound) as usize
    }

    /// A name that is not trimmed, and that is neither `.` nor `..`.
    fn name(&mut self) -> String {
        const PIECES: [&str; 16] = [
            "-",
            "a",
            "\n",
            "'",
            "\"",
            " ",
            ".",
            "$(x)",
            "\\",
            "ü",
            "日本🦀",
            "*",
            "\u{1}",
            "%2F",
            "&b=",
            "+",
        ];
        let mut name: String = (0..=self.below(8))
            .map(|_| PIECES[self.below(PIECES.len() as u64)])
            .collect();
        if name.trim() != name || name.starts_with('.') {
            name = format!("-{name}z");
        }
        name
    }

    fn path(&mut self) -> String {
        // A directory never has the name of a file.
        let mut path = "/workspace/all/".to_owned();
        for _ in 0..self.below(3) {
            path += &format!("{}D/", self.name());
        }
        path + &self.name()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let bound = [1, 10, 5_000, 70_000, 400_000][self.below(5)];
        (0..self.below(bound)).map(|_| self.next() as u8).collect()
    }
}

async fn write(tenant: &Tenant, path: &str, bytes: &[u8]) {
    let content = BASE64_STANDARD.encode(bytes);
    let body = json!({"path": path, "content": content, "encoding": "base64"});
    let data = tenant.post("/files/write", body).await.ok();
    assert_eq!(data["path"], path);
}

async fn read(tenant: &Tenant, path: &str) -> Vec<u8> {
    let query = [("path", path), ("encoding", "base64")];
    let data = tenant.get("/files/read", &query).await.ok();
    assert_eq!(data["path"], path);
    let content = data["content"].as_str().unwrap();
    BASE64_STANDARD.decode(content).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_under_random_names_are_kept_as_in_a_map() {
    let world = World::new("random").await;
    let (_hutch, tenant) = world.with_tenant("r", &[]).await;
    let mut random = Random::seeded();
    let mut expected = BTreeMap::<String, Vec<u8>>::new();
    for _ in 0..150 {
        let any = random.below(expected.len() as u64 + 1);
        let known = expected.keys().nth(any).cloned();
        match (random.below(5), known) {
            (0..=1, _) | (_, None) => {
                let (path, bytes) = (random.path(), random.bytes());
                write(&tenant, &path, &bytes).await;
                expected.insert(path, bytes);
            }
            (2, Some(path)) => {
                let bytes = random.bytes();
                write(&tenant, &path, &bytes).await;
                expected.insert(path, bytes);
            }
            (3, Some(path)) => {
                let to = format!("/workspace/all/{}", random.name());
                let body = json!({"oldPath": path, "newPath": to});
                tenant.post("/files/rename", body).await.ok();
                let bytes = expected.remove(&path).unwrap();
                expected.insert(to, bytes);
            }
            (_, Some(path)) => {
                assert!(read(&tenant, &path).await == expected[&path], "{path:?}");
                let query = [("path", path.as_str())];
                tenant.delete("/files/delete", &query).await.ok();
                assert!(!tenant.exists(&path).await, "{path:?}");
                expected.remove(&path);
            }
        }
    }
    for (path, bytes) in &expected {
        assert!(read(&tenant, path).await == *bytes, "{path:?}");
    }
    let list = "python3 -c 'import json, os
print(json.dumps([os.path.join(at, name)
    for at, _, files in os.walk(\"/workspace/all\") for name in files]))'";
    let found = tenant.stdout(list).await;
    let mut found: Vec<String> = serde_json::from_str(&found).unwrap();
    found.sort();
    assert!(found.iter().eq(expected.keys()), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_writers_wins_completely() {
    let world = World::new("writers").await;
    let (_hutch, tenant) = world.with_tenant("w", &[]).await;
    const SIZE: usize = 1 << 20;
    let path = "/workspace/file";
    let content = |letter: char| letter.to_string().repeat(SIZE);
    tenant.write(path, &content('a')).await.ok();
    let writer = async |letter: char| {
        for _ in 0..4 {
            tenant.write(path, &content(letter)).await.ok();
        }
    };
    let whole = async || {
        let text = tenant.text(path).await;
        let first = text.chars().next().unwrap();
        assert_eq!(text.len(), SIZE, "it is whole at any time");
        assert!(text.chars().all(|letter| letter == first), "and unmixed");
    };
    let readers = async {
        for _ in 0..10 {
            whole().await;
        }
    };
    futures::join!(join_all("bcdefg".chars().map(writer)), readers);
    whole().await;
    let left = tenant.stdout("ls -A").await;
    assert_eq!(left, "file", "nothing is left of the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_content_keeps_the_mode_of_its_file() {
    let world = World::new("mode").await;
    let (_hutch, tenant) = world.with_tenant("m", &[]).await;
    let make = "for m in 640 600 755; do echo old > $m; chmod $m $m; done";
    tenant.stdout(make).await;
    for mode in ["640", "600", "755"] {
        let path = format!("/workspace/{mode}");
        tenant.write(&path, "#!/bin/sh\necho new\n").await.ok();
        let reported = tenant.stdout(&format!("stat -c %a {mode}")).await;
        assert_eq!(reported, mode);
    }
    assert_eq!(tenant.stdout("./755").await, "new");
    tenant.write("/workspace/fresh", "x").await.ok();
    assert_eq!(tenant.stdout("stat -c %a fresh").await, "644");
}
