//! Calls that open, close, set and list sessions, and calls that are refused.

use hutch_wire::limits;
use hutch_wire::v1::exec_input::Input;
use hutch_wire::v1::{
    CloseSessionRequest, ListSessionsRequest, OpenSessionRequest, Session,
    SetSessionVariablesRequest, Start,
};
use tonic::Code;

use super::within;
use crate::sandbox::{Client, Sandbox, agent, argv, env};
use crate::wait::eventually;

impl Client {
    async fn open(&self, id: &str, cwd: &str, pairs: &[(&str, &str)]) -> Code {
        let request = OpenSessionRequest {
            id: id.into(),
            cwd: cwd.into(),
            env: env(pairs),
            ..OpenSessionRequest::default()
        };
        let reply = self.agent.clone().open_session(request).await;
        reply.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    async fn close(&self, id: &str) -> Code {
        self.close_as(id, "").await
    }

    async fn close_as(&self, id: &str, owner: &str) -> Code {
        let request = CloseSessionRequest {
            id: id.into(),
            owner: owner.into(),
        };
        let reply = self.agent.clone().close_session(request).await;
        reply.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    async fn own(&self, id: &str, owner: &str) -> Code {
        let request = OpenSessionRequest {
            id: id.into(),
            owner: owner.into(),
            ..OpenSessionRequest::default()
        };
        let reply = self.agent.clone().open_session(request).await;
        reply.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    async fn list(&self) -> Vec<Session> {
        let mut agent = self.agent.clone();
        let reply = agent.list_sessions(ListSessionsRequest::default()).await;
        reply.unwrap().into_inner().sessions
    }
}

#[tokio::test]
async fn a_session_is_opened_once_and_closed_once() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    assert_eq!(client.open("s", "/usr", &[("A", "it's")]).await, Code::Ok);
    assert_eq!(client.open("s", "", &[]).await, Code::AlreadyExists);
    let outcome = client.within("s", "pwd; echo $A; bash -c 'echo $A'").await;
    assert_eq!(outcome.out(), "/usr\nit's\nit's\n");
    assert!(!outcome.exit.session_created);
    assert_eq!(client.close("s").await, Code::Ok);
    assert_eq!(client.close("s").await, Code::NotFound);
    let outcome = client.within("s", "pwd; echo ${A-none}").await;
    let home = client.sh("pwd").await;
    assert_eq!(outcome.out(), format!("{}none\n", home.out()));
    assert!(outcome.exit.session_created);
}

#[tokio::test]
async fn an_owner_takes_a_session_over_and_closes_no_other() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    client.within("s", "A=1").await;
    assert_eq!(client.close_as("s", "one").await, Code::NotFound);
    for _ in 0..2 {
        assert_eq!(client.own("s", "one").await, Code::Ok);
    }
    assert_eq!(client.within("s", "echo $A").await.out(), "1\n");
    assert_eq!(client.own("default", "one").await, Code::Ok);
    assert_eq!(client.close("s").await, Code::Ok);
    client.within("s", "A=2").await;
    assert_eq!(client.close_as("s", "one").await, Code::NotFound);
    assert_eq!(client.own("s", "two").await, Code::Ok);
    assert_eq!(client.close_as("s", "two").await, Code::Ok);
}

#[tokio::test]
async fn a_session_that_has_to_exist_is_not_made() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    let request = || OpenSessionRequest {
        id: "s".into(),
        owner: "one".into(),
        existing: true,
        ..OpenSessionRequest::default()
    };
    let reply = client.agent.clone().open_session(request()).await;
    assert_eq!(reply.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.list().await.len(), 1);
    client.within("s", "A=1").await;
    client.agent.clone().open_session(request()).await.unwrap();
    assert_eq!(client.list().await[1].owner, "one");
}

#[tokio::test]
async fn a_session_keeps_its_owner_with_its_value_and_default_when_it_begins_anew() {
    let state = tempfile::tempdir().unwrap();
    {
        let sandbox = Sandbox::with_state(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "A=1").await;
        assert_eq!(client.own("s", "one").await, Code::Ok);
        assert_eq!(client.own("default", "two").await, Code::Ok);
        assert_eq!(client.close("default").await, Code::Ok);
        assert_eq!(client.list().await[0].owner, "two");
    }
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    assert_eq!(client.list().await[1].owner, "one");
    assert_eq!(client.close_as("s", "one").await, Code::Ok);
}

#[tokio::test]
async fn a_closed_session_does_not_come_back_with_the_agent() {
    let state = tempfile::tempdir().unwrap();
    {
        let sandbox = Sandbox::with_state(state.path()).await;
        let client = sandbox.connect().await;
        client.within("s", "A=1").await;
        assert_eq!(client.close("s").await, Code::Ok);
    }
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    assert_eq!(client.close("s").await, Code::NotFound);
}

#[tokio::test]
async fn closing_a_session_ends_its_command() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    let mut call = client
        .begin("s", "trap '' TERM; setsid sleep 1000 & echo up; wait")
        .await;
    call.until("up").await;
    assert_eq!(client.close("s").await, Code::Ok);
    let outcome = client.within("s", "echo anew").await;
    assert_eq!(outcome.out(), "anew\n");
    let outcome = call.finish().await.unwrap();
    assert_eq!((outcome.exit.code, outcome.exit.signal), (137, 9));
    assert!(outcome.exit.session_closed);
    let background = async || client.activity().await.background;
    eventually("0 background processes are left", background, |count| {
        *count == 0
    })
    .await;
}

#[tokio::test]
async fn default_is_always_there_and_closing_it_begins_anew() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    let home = client.sh("pwd").await;
    assert_eq!(client.list().await[0].cwd, home.out().trim().to_owned());
    assert_eq!(client.open("default", "", &[]).await, Code::AlreadyExists);
    let outcome = client.within("default", "A=1; cd /usr").await;
    assert!(!outcome.exit.session_created);
    for _ in 0..2 {
        assert_eq!(client.close("default").await, Code::Ok);
        let outcome = client.within("default", "echo ${A-none}; pwd").await;
        assert_eq!(outcome.out(), format!("none\n{}", home.out()));
    }
}

#[tokio::test]
async fn ids_are_any_text() {
    let state = tempfile::tempdir().unwrap();
    let long = "ü".repeat(limits::MAX_SESSION_ID / 2);
    let other = "ü".repeat(limits::MAX_SESSION_ID / 2 - 1) + "ö";
    let ids = [
        "../..",
        ".",
        "/",
        "/etc/passwd",
        "a\nb",
        "$(id)",
        "'",
        " ",
        "\u{1}",
        &long,
        &other,
    ];
    {
        let sandbox = Sandbox::with_state(state.path()).await;
        let client = sandbox.connect().await;
        for (number, id) in ids.iter().enumerate() {
            client.within(id, &format!("A={number}")).await;
        }
        for id in ["", &"x".repeat(limits::MAX_SESSION_ID + 1)] {
            assert_eq!(client.open(id, "", &[]).await, Code::InvalidArgument);
        }
    }
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    assert_eq!(client.list().await.len(), ids.len() + 1);
    for (number, id) in ids.iter().enumerate() {
        let outcome = client.within(id, "echo $A").await;
        assert_eq!(outcome.out(), format!("{number}\n"), "{id:?}");
    }
}

#[tokio::test]
async fn the_list_shows_directories_and_commands() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    client.within("b", "cd /usr").await;
    let mut call = client.begin("a", "echo up; sleep 1000").await;
    call.until("up").await;
    let waiting = client.begin("a", "echo").await;
    let list = client.list().await;
    let seen: Vec<_> = list
        .iter()
        .map(|session| (session.id.as_str(), session.commands))
        .collect();
    assert_eq!(seen, [("a", 2), ("b", 0), ("default", 0)]);
    assert_eq!(list[1].cwd, "/usr");
    let one = |id: &str| ListSessionsRequest { id: id.into() };
    let reply = client.agent.clone().list_sessions(one("b")).await.unwrap();
    assert_eq!(reply.into_inner().sessions.len(), 1);
    let reply = client.agent.clone().list_sessions(one("c")).await.unwrap();
    assert!(reply.into_inner().sessions.is_empty());
    drop(waiting);
}

#[tokio::test]
async fn there_are_no_more_sessions_than_the_bound() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    for number in 1..limits::MAX_SESSIONS {
        assert_eq!(client.open(&number.to_string(), "", &[]).await, Code::Ok);
    }
    assert_eq!(client.open("more", "", &[]).await, Code::ResourceExhausted);
    let more = Input::Start(within("more", "echo"));
    assert_eq!(client.refused(more).await, Code::ResourceExhausted);
    assert_eq!(client.close("7").await, Code::Ok);
    assert_eq!(client.within("more", "echo").await.exit.code, 0);
}

#[tokio::test]
async fn invalid_requests_are_refused() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    assert_eq!(
        client.open("s", "", &[("1A", "")]).await,
        Code::InvalidArgument
    );
    assert_eq!(client.open("s", "/\0", &[]).await, Code::InvalidArgument);
    let start = Start {
        session: "s".into(),
        ..argv("a", &["true"])
    };
    assert_eq!(
        client.refused(Input::Start(start)).await,
        Code::InvalidArgument
    );
    let request = SetSessionVariablesRequest {
        id: "s".into(),
        env: env(&[("A", "\0")]),
    };
    let reply = client.agent.clone().set_session_variables(request).await;
    assert_eq!(reply.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.close("s").await, Code::NotFound);
}

#[tokio::test]
async fn without_a_shell_there_are_no_sessions() {
    let root = tempfile::tempdir().unwrap();
    std::fs::copy(agent(), root.path().join("hutch-agent")).unwrap();
    let sandbox = Sandbox::without_an_image(root.path()).await;
    let client = sandbox.connect().await;
    let start = Input::Start(within("s", "echo"));
    assert_eq!(client.refused(start).await, Code::FailedPrecondition);
    assert_eq!(client.open("s", "", &[]).await, Code::FailedPrecondition);
}

#[tokio::test]
async fn standard_input_reaches_a_command_of_a_session() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    let client = sandbox.connect().await;
    assert_eq!(
        client.within("s", "cat; read x; echo $?").await.out(),
        "1\n"
    );
    let start = Start {
        stdin: true,
        ..within("s", "read A; cat")
    };
    let call = client.start(start).await;
    call.stdin(b"one\ntwo\n");
    call.stdin_end();
    assert_eq!(call.finish().await.unwrap().out(), "two\n");
    assert_eq!(client.within("s", "echo $A").await.out(), "one\n");
}
