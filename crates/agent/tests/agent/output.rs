//! Output of commands: byte for byte, bounded, and at the client's pace.

use hutch_wire::limits;
use hutch_wire::v1::Start;
use hutch_wire::v1::exec_output::Output;

use crate::sandbox::{Sandbox, argv, script};

#[tokio::test]
async fn output_is_bytes_and_not_text() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let outcome = client
        .sh(r"printf 'a\0b\377\376\n'; printf '\0\300' >&2")
        .await;
    assert_eq!(outcome.stdout, b"a\0b\xff\xfe\n");
    assert_eq!(outcome.stderr, b"\0\xc0");
}

#[tokio::test]
async fn output_written_right_before_the_end_is_complete() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    for size in [65_535, 65_536, 65_537, 200_001, 3_000_000] {
        let text = format!("head -c {size} /dev/zero >&2; head -c {size} /dev/zero");
        let outcome = client.sh(&text).await;
        assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (size, size));
        let exit = outcome.exit;
        assert!(!exit.stdout_truncated && !exit.stderr_truncated);
    }
}

#[tokio::test]
async fn output_past_the_limit_is_dropped_and_reported() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let text = "head -c 200000000 /dev/zero; echo end >&2; exit 3";
    let outcome = client
        .run(Start {
            output_limit: 100_000,
            ..script("a", text)
        })
        .await;
    assert_eq!((outcome.stdout.len(), outcome.err()), (100_000, "end\n"));
    let exit = outcome.exit;
    assert_eq!(
        (exit.code, exit.stdout_truncated, exit.stderr_truncated),
        (3, true, false)
    );
    let exact = client
        .run(Start {
            output_limit: 6,
            ..script("b", "printf 123456")
        })
        .await;
    assert_eq!(
        (exact.out(), exact.exit.stdout_truncated),
        ("123456", false)
    );
}

#[tokio::test]
async fn much_output_through_a_slow_client_does_not_grow_the_agent() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let mut call = client
        .start(argv("a", &["head", "-c", "200000000", "/dev/zero"]))
        .await;
    let (mut seen, mut most) = (0, 0);
    while let Some(output) = call.next().await.unwrap() {
        if let Output::Stdout(bytes) = output {
            seen += bytes.len();
            assert!(seen <= 200_000_000, "{seen} bytes");
        }
        most = most.max(sandbox.resident_kilobytes());
    }
    assert_eq!(seen, 200_000_000);
    assert!(most < 30_000, "{most} kB");
}

#[tokio::test]
async fn a_client_that_does_not_acknowledge_holds_the_command_back() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let text = "head -c 3000000 /dev/zero; echo done >&2";
    let mut call = client.start(script("a", text)).await;
    call.acknowledges = false;
    while call.offsets()[0] < limits::WINDOW as u64 {
        assert!(matches!(
            call.next().await.unwrap(),
            Some(Output::Stdout(_))
        ));
    }
    assert_eq!(call.offsets(), [limits::WINDOW as u64, 0]);
    assert_eq!(client.sh("echo meanwhile").await.out(), "meanwhile\n");
    assert_eq!(client.activity().await.running, 1);
    call.acknowledges = true;
    call.acknowledge();
    let outcome = call.finish().await.unwrap();
    assert_eq!(
        (outcome.stdout.len(), outcome.err()),
        (3_000_000 - limits::WINDOW, "done\n")
    );
}

#[tokio::test]
async fn a_client_that_reads_nothing_disturbs_no_other() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let idle = client.start(script("idle", "yes")).await;
    for round in 0..20 {
        let outcome = client
            .run(argv(&format!("r{round}"), &["seq", "100000"]))
            .await;
        assert_eq!(outcome.stdout.len(), 588_895);
    }
    drop(idle);
    assert!(sandbox.resident_kilobytes() < 30_000);
}
