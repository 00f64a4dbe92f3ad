//! Buckets: the time until a mount is usable, and its throughput compared with the same
//! mounter on the machine, both with the same local S3 server.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hutch_api::{Phase, Sandbox, annotations};
use hutch_core::names;
use serde_json::json;

use crate::report::{Measure, Report, Times};
use crate::support::world::eventually;
use crate::support::{S3, Tenant, World};

const MOUNTS: usize = 20;
/// MiB that are written and read. A debug build only checks that the bench works.
const SIZE: usize = if cfg!(debug_assertions) { 16 } else { 256 };
/// The number of runs. The medians are compared.
const PASSES: usize = 12;

pub async fn measure(report: &mut Report) {
    let world = World::new("bench-buckets").await;
    let (s3, _node) = (S3::start().await, world.node().await);
    let driver = world.driver().await;
    let flags = [
        "--allow-http-buckets",
        "--node-driver",
        &driver,
        "--operator-namespace",
        &world.namespace,
    ];
    let (_hutch, tenant) = world.with_tenant("buckets", &flags).await;
    tenant.create().await.ok();
    weigh(&world).await;
    mounts(&tenant, &s3, report).await;
    mount(&tenant, &s3).await;
    flow(&tenant, &s3, report).await;
    tenant.destroy().await.ok();
}

/// Gives the sandbox the CPU weight of a process of the machine, with which it is compared.
/// With a small CPU request it would yield to the S3 server and the mounter.
async fn weigh(world: &World) {
    let name = names::sandbox("buckets");
    let pod = |sandbox: &Sandbox| sandbox.status.as_ref().and_then(|it| it.pod_uid.clone());
    let before = pod(&world.ready(&name).await);
    let heavier = json!({
        "metadata": {"annotations": {annotations::RESTART: "1"}},
        "spec": {"resources": {"requests": {"cpu": "1"}}},
    });
    world.patch(&name, heavier).await;
    let is_new = |sandbox: &Sandbox| {
        let status = sandbox.status.as_ref();
        status.is_some_and(|it| it.phase == Phase::Ready) && pod(sandbox) != before
    };
    world.sandbox(&name, is_new).await;
}

async fn mount(tenant: &Tenant, s3: &S3) {
    let keys = json!({"accessKeyId": s3.access_key, "secretAccessKey": s3.secret_key});
    let options = json!({"endpoint": s3.url(), "credentials": keys});
    let body = json!({"bucket": "data", "mountPath": "/mnt/data", "options": options});
    tenant.post("/mount-bucket", body).await.ok();
}

async fn mounts(tenant: &Tenant, s3: &S3, report: &mut Report) {
    let (mut mounted, mut unmounted) = (Vec::new(), Vec::new());
    for _ in 0..MOUNTS {
        let began = Instant::now();
        mount(tenant, s3).await;
        tenant.stdout("ls /mnt/data").await;
        mounted.push(began.elapsed());
        let began = Instant::now();
        let query = [("mountPath", "/mnt/data")];
        tenant.delete("/unmount-bucket", &query).await.ok();
        unmounted.push(began.elapsed());
    }
    let value = Times::new(mounted).percentile(50);
    report.add(&Measure {
        name: "/mount-bucket to the first listing, p50",
        value,
        unit: "ms",
        baseline: None,
        target: Some(("under 300 ms", value < 300.0)),
    });
    report.add(&Measure {
        name: "/unmount-bucket, p50",
        value: Times::new(unmounted).percentile(50),
        unit: "ms",
        baseline: None,
        target: None,
    });
}

/// Both sides take turns, and each is first equally often, so that other load of the
/// machine affects both.
async fn flow(tenant: &Tenant, s3: &S3, report: &mut Report) {
    let directory = tempfile::tempdir().unwrap();
    let (mut plain, point) = on_the_machine(directory.path(), s3).await;
    let (mut inside, mut outside) = (Passes::default(), Passes::default());
    let file = point.join("outside").display().to_string();
    let exec = async |script: &str| drop(tenant.stdout(script).await);
    for pass in 0..PASSES {
        if pass % 2 == 0 {
            inside.add(exec, "/mnt/data/inside").await;
            outside.add(shell, &file).await;
        } else {
            outside.add(shell, &file).await;
            inside.add(exec, "/mnt/data/inside").await;
        }
    }
    assert!(
        Command::new("umount")
            .arg(&point)
            .status()
            .unwrap()
            .success()
    );
    plain.wait().unwrap();
    let median = |times| Times::new(times).percentile(50);
    for (what, value, baseline) in [
        ("write", median(inside.writes), median(outside.writes)),
        ("read", median(inside.reads), median(outside.reads)),
    ] {
        report.add(&Measure {
            name: &format!("{what} of {SIZE} MiB in a bucket, p50"),
            value,
            unit: "ms",
            baseline: Some(baseline),
            target: Some((
                "at most 1.05 times the mounter alone",
                value <= 1.05 * baseline,
            )),
        });
    }
}

#[derive(Default)]
struct Passes {
    writes: Vec<Duration>,
    reads: Vec<Duration>,
}

impl Passes {
    async fn add(&mut self, run: impl AsyncFn(&str), file: &str) {
        self.writes.push(timed(run(&write(file))).await);
        self.reads.push(timed(run(&read(file))).await);
    }
}

fn write(file: &str) -> String {
    format!("dd if=/dev/zero of={file} bs=1M count={SIZE} conv=fsync 2>&1")
}

fn read(file: &str) -> String {
    format!("dd if={file} of=/dev/null bs=1M 2>&1")
}

async fn timed<T>(work: impl Future<Output = T>) -> Duration {
    let began = Instant::now();
    work.await;
    began.elapsed()
}

async fn shell(script: &str) {
    let run = Command::new("sh").args(["-c", script]).output();
    assert!(run.unwrap().status.success(), "{script}");
}

/// `s3fs` with the arguments of `hutch-node`, except for the owner of the files.
async fn on_the_machine(directory: &Path, s3: &S3) -> (Child, std::path::PathBuf) {
    let (keys, point) = (directory.join("keys"), directory.join("point"));
    std::fs::write(&keys, format!("{}:{}\n", s3.access_key, s3.secret_key)).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::create_dir(&point).unwrap();
    let options = format!(
        "url={},passwd_file={},use_path_request_style,tmpdir=/var/tmp,retries=2,connect_timeout=4,readwrite_timeout=20",
        s3.url(),
        keys.display()
    );
    let child = Command::new("s3fs")
        .arg("data")
        .arg(&point)
        .args(["-f", "-o", &options])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("s3fs starts");
    eventually("the mounter answers", async || {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        mounts.contains(&*point.to_string_lossy()).then_some(())
    })
    .await;
    (child, point)
}
