//! One command at a time in a session, any number of sessions side by side.

use hutch_wire::limits;
use hutch_wire::v1::CloseSessionRequest;
use hutch_wire::v1::exec_input::Input;
use tonic::Code;

use super::within;
use crate::sandbox::Sandbox;
use crate::wait::eventually;

#[tokio::test]
async fn commands_of_one_session_run_in_order_of_arrival() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    let mut calls = Vec::new();
    for number in 0..8 {
        let text = format!(
            "seen=${{seen}}{number}; for i in 1 2 3; do echo {number}; sleep 0.01; done; echo $seen"
        );
        calls.push(client.begin("s", &text).await);
    }
    let mut seen = String::new();
    for (number, call) in calls.into_iter().enumerate() {
        seen += &number.to_string();
        let outcome = call.finish().await.unwrap();
        let expected = format!("{number}\n").repeat(3) + &seen + "\n";
        assert_eq!(outcome.out(), expected);
    }
}

#[tokio::test]
async fn sessions_run_side_by_side() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    let directory = state.path().display();
    let mut calls = Vec::new();
    for number in 0..8 {
        // Each command waits until all have begun.
        let text = format!(
            "touch {directory}/{number}; until [ $(ls {directory}/[0-9] | wc -l) = 8 ]; do sleep 0.01; done"
        );
        calls.push(client.begin(&format!("s{number}"), &text).await);
    }
    for call in calls {
        assert_eq!(call.finish().await.unwrap().exit.code, 0);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_more_commands() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    let mut first = client.begin("s", "echo up; sleep 1000").await;
    first.until("up").await;
    let mut waiting = Vec::new();
    for _ in 0..limits::MAX_WAITING {
        waiting.push(client.begin("s", "echo ran").await);
    }
    let more = Input::Start(within("s", "echo ran"));
    assert_eq!(client.refused(more).await, Code::ResourceExhausted);
    assert_eq!(client.within("t", "echo other").await.out(), "other\n");
    let request = CloseSessionRequest {
        id: "s".into(),
        owner: String::new(),
    };
    client.agent.clone().close_session(request).await.unwrap();
    waiting.insert(0, first);
    for call in waiting {
        let outcome = call.finish().await.unwrap();
        assert_eq!((outcome.exit.code, outcome.out()), (137, ""));
        assert!(outcome.exit.session_closed);
    }
}

#[tokio::test]
async fn background_processes_do_not_hold_the_session() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    for _ in 0..3 {
        let outcome = client.within("s", "sleep 1000 & yes & echo done").await;
        assert_eq!(outcome.exit.code, 0);
    }
    client
        .within("s", "trap 'kill $(jobs -p)' TERM; sleep 0")
        .await;
    assert_eq!(client.within("s", "echo next").await.out(), "next\n");
    let background = async || client.activity().await.background;
    eventually("6 background processes are left", background, |count| {
        *count == 6
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_take_its_command_along() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    let mut first = client.begin("s", "echo up; sleep 0.2; A=1").await;
    first.until("up").await;
    drop(client.begin("s", "A=${A}2").await);
    client.cut().await;
    let client = sandbox.connect().await;
    assert_eq!(client.within("s", "echo $A").await.out(), "12\n");
}

#[tokio::test]
async fn a_shell_that_waits_for_its_command_can_be_killed() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    client.within("s", "A=1").await;
    let kill = "until [ \"$(pgrep -x bash)\" = $$ ]; do
        for p in $(pgrep -x bash); do [ $p = $$ ] || kill -9 $p; done; done";
    for _ in 0..10 {
        client.sh(kill).await;
        let outcome = client.within("s", "echo $A").await;
        assert_eq!(outcome.out(), "1\n");
        assert_eq!(client.activity().await.background, 0);
    }
}

#[tokio::test]
async fn many_sessions_in_turn_keep_their_values_apart() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    for round in 0..3 {
        for number in 0..40 {
            let text = format!("A=${{A}}{number}; echo $A");
            let outcome = client.within(&format!("s{number}"), &text).await;
            let expected = number.to_string().repeat(round + 1) + "\n";
            assert_eq!(outcome.out(), expected);
        }
    }
}
