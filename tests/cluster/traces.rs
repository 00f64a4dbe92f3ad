//! Traces: one request is one trace, from the client's own span through the facade
//! to the controllers.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use crate::support::World;
use crate::support::collector::Collector;
use crate::support::world::eventually;

/// The client's trace, and its span in it.
const TRACE: [u8; 16] = [0x0a; 16];
const CLIENT: [u8; 8] = [0x0b; 8];
const TRACEPARENT: &str = "00-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a-0b0b0b0b0b0b0b0b-01";

fn named<'a>(spans: &'a [Span], name: &str) -> Option<&'a Span> {
    spans.iter().find(|span| span.name == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_from_the_client_to_the_controllers() {
    let world = World::new("traces").await;
    let collector = Collector::start().await;
    let hutch = world
        .hutch("run", &["--otlp-endpoint", &collector.url()])
        .await;
    let url = hutch.url().await;
    let body = json!({"command": "echo of-the-client; exit 3"});
    let sent = reqwest::Client::new()
        .post(format!("{url}/exec"))
        .header("x-sandbox-id", "traced")
        .header("traceparent", TRACEPARENT)
        .json(&body)
        .send();
    let answer = sent.await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");

    let all = ["POST /exec", "create", "connect", "exec", "reconcile"];
    let spans = eventually("the whole trace is there", async || {
        let spans = collector.spans(&TRACE);
        let complete = all.iter().all(|name| named(&spans, name).is_some());
        complete.then_some(spans)
    })
    .await;
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
    // A command that fails is no failure of Hutch.
    let failed = |span: &&Span| {
        let status = span.status.as_ref();
        status.is_some_and(|status| status.code() == StatusCode::Error)
    };
    assert_eq!(named(&spans, "exec").filter(failed), None);
    // What a client runs is its own business.
    let told = format!("{spans:?}");
    assert!(!told.contains("of-the-client"), "{told}");

    let metrics = hutch.metrics().await;
    for operation in ["create", "connect", "exec"] {
        let bucket = format!(
            r#"hutch_operation_seconds_bucket{{le="0.001",operation="{operation}",outcome="ok"}}"#
        );
        assert!(metrics.contains(&bucket), "{bucket} in:\n{metrics}");
    }
    assert!(hutch.metric("hutch_queue_seconds_count").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_keeps_nobody_waiting() {
    let world = World::new("no-collector").await;
    let nowhere = ["--otlp-endpoint", "http://127.0.0.1:9"];
    let (hutch, tenant) = world.with_tenant("any", &nowhere).await;
    assert_eq!(tenant.stdout("echo here").await, "here");
    assert!(hutch.stop().await.success());
}
