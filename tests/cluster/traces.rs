//! Traces: one request is one trace, from the client's own span through the facade
//! to the controllers.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use crate::support::collector::Collector;
use crate::support::world::{eventually, http};
use crate::support::{Hutch, World};
use hutch_api::{Phase, Sandbox};
use hutch_core::names;

/// The client's trace, and its span in it.
const TRACE: [u8; 16] = [0x0a; 16];
const CLIENT: [u8; 8] = [0x0b; 8];
const TRACEPARENT: &str = "00-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a-0b0b0b0b0b0b0b0b-01";

fn named<'a>(spans: &'a [Span], name: &str) -> Option<&'a Span> {
    spans.iter().find(|span| span.name == name)
}

/// Runs a command in the sandbox `traced`, as a part of the client's trace.
async fn exec(hutch: &Hutch, command: &str) {
    let sent = http()
        .post(format!("{}/exec", hutch.url().await))
        .header("x-sandbox-id", "traced")
        .header("traceparent", TRACEPARENT)
        .json(&json!({"command": command}))
        .send();
    let answer = sent.await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

/// The spans of the client's trace, once these are among them.
async fn complete(collector: &Collector, names: &[&str]) -> Vec<Span> {
    eventually("the trace is complete", async || {
        let spans = collector.spans(&TRACE);
        let complete = names.iter().all(|name| named(&spans, name).is_some());
        complete.then_some(spans)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_from_the_client_to_the_controllers() {
    let world = World::new("traces").await;
    let collector = Collector::start().await;
    let hutch = world
        .hutch("run", &["--otlp-endpoint", &collector.url()])
        .await;
    exec(&hutch, "echo of-the-client; exit 3").await;
    let all = ["POST /exec", "create", "connect", "exec", "reconcile"];
    let spans = complete(&collector, &all).await;
    let of = |name: &str| named(&spans, name).unwrap();
    assert_eq!(of("POST /exec").parent_span_id, CLIENT);
    for inner in ["create", "exec"] {
        assert_eq!(
            of(inner).parent_span_id,
            of("POST /exec").span_id,
            "{inner}"
        );
    }
    assert_eq!(of("connect").parent_span_id, of("exec").span_id);
    assert_eq!(of("reconcile").parent_span_id, of("create").span_id);
    // A failing command is not a failure of Hutch.
    let failed = |span: &&Span| {
        let status = span.status.as_ref();
        status.is_some_and(|status| status.code() == StatusCode::Error)
    };
    assert_eq!(named(&spans, "exec").filter(failed), None);
    // The text of a command is private.
    let reported = format!("{spans:?}");
    assert!(!reported.contains("of-the-client"), "{reported}");

    let metrics = hutch.metrics().await;
    for operation in ["create", "connect", "exec"] {
        let bucket = format!(
            r#"hutch_operation_duration_seconds_bucket{{le="0.001",operation="{operation}",outcome="ok"}}"#
        );
        assert!(metrics.contains(&bucket), "{bucket} in:\n{metrics}");
    }
    assert!(hutch.metric("hutch_queue_duration_seconds_count").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_is_a_part_of_the_trace_of_the_request_that_needs_it() {
    let world = World::new("wake-traces").await;
    let collector = Collector::start().await;
    let traced = ["--otlp-endpoint", &collector.url()];
    let (hutch, tenant) = world.with_tenant("traced", &traced).await;
    let sleepy = json!({"options": {"sleepAfter": "2s"}});
    tenant.post("/lifecycle", sleepy).await.ok();
    let name = names::sandbox("traced");
    let status = |sandbox: &Sandbox| sandbox.status.clone().unwrap_or_default();
    let asleep = |sandbox: &Sandbox| status(sandbox).phase == Phase::Suspended;
    world.sandbox(&name, asleep).await;

    exec(&hutch, "true").await;
    let spans = complete(&collector, &["POST /exec", "wake", "reconcile"]).await;
    let of = |name: &str| named(&spans, name).unwrap();
    assert_eq!(of("wake").parent_span_id, of("POST /exec").span_id);
    assert_eq!(of("reconcile").parent_span_id, of("wake").span_id);
    // Later work is not a part of it.
    let over = |sandbox: &Sandbox| status(sandbox).traceparent.is_none();
    world.sandbox(&name, over).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_collector_delays_no_request() {
    let world = World::new("no-collector").await;
    let nowhere = ["--otlp-endpoint", "http://127.0.0.1:9"];
    let (hutch, tenant) = world.with_tenant("any", &nowhere).await;
    assert_eq!(tenant.stdout("echo here").await, "here");
    assert!(hutch.stop().await.success());
}
