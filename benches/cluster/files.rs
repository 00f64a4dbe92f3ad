//! Files: small ones and large ones, written and read.

use std::time::Instant;

use reqwest::Method;
use serde_json::json;

use crate::report::{Measure, Report, Times};
use crate::support::Tenant;

const SMALL: (usize, usize) = (100, 200);
const LARGE: (usize, usize) = (5 << 20, 10);

pub async fn measure(tenant: &Tenant, report: &mut Report) {
    let (write, read) = write_and_read(tenant, SMALL).await;
    let goal = |value: f64| Some(("at most 2 ms", value <= 2.0));
    add(report, "write of 100 bytes, p50", write, goal(write));
    add(report, "read of 100 bytes, p50", read, goal(read));
    let (write, read) = write_and_read(tenant, LARGE).await;
    let goal = Some(("at most 80 ms", write <= 80.0));
    add(report, "write of 5 MiB, p50", write, goal);
    add(report, "read of 5 MiB, p50", read, None);
}

fn add(report: &mut Report, name: &str, value: f64, target: Option<(&str, bool)>) {
    report.add(&Measure {
        name,
        value,
        unit: "ms",
        baseline: None,
        target,
    });
}

/// The median in milliseconds for files of that size, over that many runs.
async fn write_and_read(tenant: &Tenant, (size, times): (usize, usize)) -> (f64, f64) {
    let path = format!("/workspace/{size}.txt");
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for turn in 0..times {
        let letter = char::from(b'a' + (turn % 26) as u8);
        let content = letter.to_string().repeat(size);
        let body = json!({"path": path, "content": content});
        let began = Instant::now();
        tenant.post("/files/write", body).await.ok();
        writes.push(began.elapsed());
        let query = format!("/files/read?path={path}");
        let began = Instant::now();
        let data = tenant.send(Method::GET, &query, "").await.ok();
        reads.push(began.elapsed());
        assert!(data["content"] == content, "{path} is another");
    }
    let median = |times| Times::new(times).percentile(50);
    (median(writes), median(reads))
}
