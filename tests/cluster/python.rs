//! A client in Python that knows the contract and nothing else.

use std::process::Command;

use crate::support::World;

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/client.py");

/// Runs `python3` with those arguments; what it printed, in good and bad times.
fn python(arguments: &[&str]) -> Result<String, String> {
    let run = || Command::new("python3").args(arguments).output();
    let output = tokio::task::block_in_place(run).map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    output.status.success().then(|| said.clone()).ok_or(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_finds_its_session_again_in_another_process() {
    let found = python(&["-c", "import requests"]);
    if let Err(said) = found {
        panic!("this test needs a package: apt-get install python3-requests\n{said}");
    }
    let world = World::new("python").await;
    let (_hutch, tenant) = world.with_tenant("unused", &[]).await;
    let url = tenant.address("");
    for part in ["begin", "go-on"] {
        let said = python(&[CLIENT, &url, "user_42/Alice", part]);
        let said = said.unwrap_or_else(|said| panic!("client.py {part}:\n{said}"));
        assert!(said.ends_with("fine\n"), "{said}");
    }
}
