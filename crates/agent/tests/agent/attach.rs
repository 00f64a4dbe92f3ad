//! Attaching to an execution again after the channel was lost.

use hutch_wire::limits;
use hutch_wire::v1::Start;
use hutch_wire::v1::exec_input::Input;
use hutch_wire::v1::exec_output::Output;
use tonic::Code;

use crate::sandbox::{Call, Sandbox, attach, script};
use crate::wait::eventually;

/// Reads standard output until it has `until` bytes. Returns true if the exit came
/// before.
async fn read(call: &mut Call, seen: &mut Vec<u8>, until: usize) -> bool {
    while seen.len() < until {
        match call.next().await.unwrap().unwrap() {
            Output::Stdout(bytes) => seen.extend_from_slice(&bytes),
            Output::Stderr(bytes) => panic!("on stderr: {bytes:?}"),
            Output::Exit(exit) => {
                assert_eq!((exit.code, exit.stdout_truncated), (0, false));
                return true;
            }
        }
    }
    false
}

#[tokio::test]
async fn after_cuts_no_byte_is_lost_or_doubled() {
    let sandbox = Sandbox::new().await;
    let expected: String = (1..=1_000_000)
        .map(|number| format!("{number}\n"))
        .collect();
    let mut client = sandbox.connect().await;
    let mut call = client.start(script("a", "seq 1000000")).await;
    let mut seen = Vec::new();
    let mut target = 500_000;
    while !read(&mut call, &mut seen, target).await {
        assert!(seen.len() <= expected.len(), "{} bytes", seen.len());
        let offsets = call.offsets();
        client.cut().await;
        client = sandbox.connect().await;
        call = client.attach("a", offsets).await;
        target += 777_777;
    }
    assert!(seen == expected.as_bytes(), "{} bytes", seen.len());
}

#[tokio::test]
async fn a_result_waits_for_a_client_that_was_cut_off() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let mut call = client.start(script("a", "echo 1; read x; exit 3")).await;
    call.until("1\n").await;
    client.cut().await;
    let client = sandbox.connect().await;
    let running = async || client.activity().await.running;
    eventually("the command has ended", running, |count| *count == 0).await;
    let outcome = client.attach("a", [0, 0]).await.finish().await.unwrap();
    assert_eq!((outcome.exit.code, outcome.out()), (3, "1\n"));
}

#[tokio::test]
async fn a_result_on_its_way_to_a_client_that_is_cut_off_waits_for_it() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let mut call = client.start(script("a", "exit 3")).await;
    let Some(Output::Exit(_)) = call.next().await.unwrap() else {
        panic!("no exit");
    };
    assert!(call.next().await.unwrap().is_none());
    client.cut().await;
    drop(call);
    let client = sandbox.connect().await;
    let outcome = client.attach("a", [0, 0]).await.finish().await.unwrap();
    assert_eq!(outcome.exit.code, 3);
}

#[tokio::test]
async fn a_cancelled_call_does_not_end_the_command() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let text = "echo up; until [ \"$go\" ]; do read go; done; echo $go";
    let mut call = client
        .start(Start {
            stdin: true,
            ..script("a", text)
        })
        .await;
    call.until("up\n").await;
    drop(call);
    let call = client.attach("a", [3, 0]).await;
    call.stdin(b"gone\n");
    assert_eq!(call.finish().await.unwrap().out(), "gone\n");
}

#[tokio::test]
async fn an_id_that_is_not_known_is_not_found() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    assert_eq!(client.refused(attach("a", [0, 0])).await, Code::NotFound);
}

#[tokio::test]
async fn an_id_runs_once() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let mut call = client
        .start(Start {
            stdin: true,
            ..script("a", "echo up; cat")
        })
        .await;
    call.until("up").await;
    let again = Input::Start(script("a", "echo again"));
    assert_eq!(client.refused(again).await, Code::AlreadyExists);
    call.stdin_end();
    assert_eq!(call.finish().await.unwrap().exit.code, 0);
}

#[tokio::test]
async fn a_result_that_was_received_completely_is_forgotten() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    client.run(script("a", "echo 1")).await;
    let is_known = async || client.call(attach("a", [0, 0])).await.is_ok();
    eventually("the execution is forgotten", is_known, |known| !known).await;
    assert_eq!(client.run(script("a", "echo 2")).await.out(), "2\n");
}

#[tokio::test]
async fn the_last_to_attach_has_the_stream() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let mut first = client
        .start(Start {
            stdin: true,
            ..script("a", "echo up; cat")
        })
        .await;
    first.until("up\n").await;
    let other = sandbox.connect().await;
    let mut second = other.attach("a", [0, 0]).await;
    assert_eq!(first.next().await.unwrap_err().code(), Code::Aborted);
    second.until("up\n").await;
    second.stdin(b"more\n");
    second.stdin_end();
    assert_eq!(second.finish().await.unwrap().out(), "more\n");
}

#[tokio::test]
async fn offsets_that_are_not_kept_are_out_of_range() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let mut call = client.start(script("a", "seq 200000; sleep 1000")).await;
    while call.offsets()[0] < 2 * limits::ACK_EVERY {
        assert!(matches!(
            call.next().await.unwrap(),
            Some(Output::Stdout(_))
        ));
    }
    call.acknowledge();
    // The acknowledgement has arrived once the offset is gone.
    let offsets = [call.offsets()[0], 0];
    let is_kept = async || client.call(attach("a", offsets)).await.is_ok();
    eventually("the acknowledged offset is kept", is_kept, |kept| *kept).await;
    assert_eq!(client.refused(attach("a", [0, 0])).await, Code::OutOfRange);
    assert_eq!(
        client.refused(attach("a", [u64::MAX, 0])).await,
        Code::OutOfRange
    );
}
