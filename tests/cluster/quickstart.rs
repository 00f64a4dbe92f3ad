//! The programs behind `make up` and `make down`, on a cluster of their own beside that of
//! the other tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use hutch_node::Process;
use serde_json::{Value, json};

use crate::support::{S3, Tenant};

/// `testcluster quickstart`, run by a shell without any setting of Hutch.
fn quickstart(state: &Path, further: &[&str]) -> Result<String, String> {
    let program = Path::new(env!("CARGO_BIN_EXE_hutch")).with_file_name("testcluster");
    let mut command = Command::new(program);
    command.arg("--state").arg(state).arg("quickstart");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HUTCH_")) {
        command.env_remove(name);
    }
    command.env("HUTCH_ALLOW_HTTP_BUCKETS", "true");
    let ended = command.args(further).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match ended.status.success() {
        true => Ok(text(&ended.stdout)),
        false => Err(text(&ended.stderr)),
    }
}

/// A state directory. Its cluster is removed in any case.
struct State(PathBuf);

impl Drop for State {
    fn drop(&mut self) {
        if self.0.exists() {
            let _ = quickstart(&self.0, &["--down"]);
        }
    }
}

/// The processes in the records of a directory.
fn recorded(directory: &Path) -> Vec<Process> {
    let records = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let records = records.filter(|file| file.path().extension().is_some_and(|it| it == "json"));
    let processes = records.filter_map(|file| {
        let text = std::fs::read(file.path()).ok()?;
        let record: Value = serde_json::from_slice(&text).ok()?;
        let pid = record["process"]["pid"].as_u64().or(record["pid"].as_u64());
        Process::of(u32::try_from(pid?).ok()?)
    });
    processes.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_can_be_mounted_after_make_up_and_make_down_leaves_nothing() {
    let s3 = S3::start().await;
    s3.put("data", "there", "from S3");
    let target = Path::new(env!("CARGO_BIN_EXE_hutch")).ancestors().nth(2);
    // A short path, because sockets are below it.
    let name = format!("q-{:08x}", uuid::Uuid::new_v4().as_fields().0);
    let state = State(target.unwrap().join(name));
    let up = async || {
        let at = state.0.clone();
        let up = tokio::task::spawn_blocking(move || quickstart(&at, &[]));
        up.await.unwrap().unwrap()
    };
    let printed = up().await;
    assert!(printed.contains("mounted by hutch-node"), "{printed}");
    let words: Vec<_> = printed.split_whitespace().collect();
    let url = words.iter().skip_while(|word| **word != "URL").nth(1);
    let tenant = Tenant::new(url.unwrap(), "first");
    let keys = json!({"accessKeyId": s3.access_key, "secretAccessKey": s3.secret_key});
    let wanted = json!({
        "bucket": "data", "mountPath": "/mnt/data",
        "options": {"endpoint": s3.url(), "credentials": keys},
    });
    tenant.post("/mount-bucket", wanted).await.ok();
    assert_eq!(tenant.stdout("cat /mnt/data/there").await, "from S3");

    // The second run finds everything as it was.
    let mut all = recorded(&state.0.join("hutch-node/mounts"));
    assert_eq!(all.len(), 1, "one mounter");
    assert!(up().await.contains("was running"));
    assert!(all.iter().all(|mounter| mounter.runs()));
    assert_eq!(tenant.stdout("cat /mnt/data/there").await, "from S3");

    all.extend(recorded(&state.0.join("processes")));
    let at = state.0.clone();
    let down = tokio::task::spawn_blocking(move || quickstart(&at, &["--down"]));
    down.await.unwrap().unwrap();
    assert!(all.iter().all(|process| !process.runs()), "{all:?}");
    assert!(!state.0.exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(state.0.to_str().unwrap()), "{mounts}");
    assert_eq!(s3.get("data", "there").as_deref(), Some("from S3"));
}
