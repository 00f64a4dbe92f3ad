//! TLS, with a real client: Debian's `python3` and its `requests`.

use std::path::Path;
use std::process::Command;

use crate::support::World;
use crate::support::access::with_user;
use crate::support::hutch::KEYED;
use crate::support::world::{eventually, http};

/// Sends a request to that address with the key in the URL, and trusts that certificate
/// only. Returns the status.
const ASK: &str = "
import requests, socket, sys
url, trusted, address = sys.argv[1:]
found = socket.getaddrinfo
socket.getaddrinfo = lambda name, *more: found(address, *more)
answer = requests.get(url + '/nowhere', headers={'x-sandbox-id': 'any'}, verify=trusted)
print(answer.status_code)
";

fn ask(url: &str, trusted: &Path) -> Option<u16> {
    ask_at("127.0.0.1", url, trusted)
}

/// The status that `address` answers for the host `localhost` of the URL.
pub fn ask_at(address: &str, url: &str, trusted: &Path) -> Option<u16> {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", ASK, url]).arg(trusted).arg(address);
    let output = tokio::task::block_in_place(|| python.output()).unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// Writes a new certificate to its own file. Moves it and its key to the facade's paths by
/// renames, as a mounted Secret changes.
pub fn renew(directory: &Path, name: &str) -> std::path::PathBuf {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let trusted = directory.join(name);
    std::fs::write(&trusted, made.cert.pem()).unwrap();
    let parts = [
        ("tls.key", made.signing_key.serialize_pem()),
        ("tls.crt", made.cert.pem()),
    ];
    for (file, content) in parts {
        std::fs::write(directory.join("new"), content).unwrap();
        std::fs::rename(directory.join("new"), directory.join(file)).unwrap();
    }
    trusted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_certificate_is_used_only_if_it_is_valid() {
    let world = World::new("tls").await;
    let directory = tempfile::tempdir().unwrap();
    let first = renew(directory.path(), "first");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (certificate, key) = (path("tls.crt"), path("tls.key"));
    let arguments = [KEYED, "--tls-cert", &certificate, "--tls-key", &key];
    let hutch = world.hutch("facade", &arguments).await;
    let url = hutch.url().await;
    assert!(url.starts_with("https://"), "{url}");
    let url = url.replace("127.0.0.1", "localhost");
    let key = world.key("acme", &world.namespace, &[]);
    // `requests` sends no credential for a URL without a password.
    let keyed = with_user(&url, &format!("acme:{key}"));
    eventually("the key is known", async || {
        (ask(&keyed, &first) == Some(200)).then_some(())
    })
    .await;
    assert_eq!(ask(&url, &first), Some(401));
    // No request is served without TLS.
    let plain = http().get(url.replace("https:", "http:")).send().await;
    assert!(plain.is_err());

    let second = renew(directory.path(), "second");
    eventually("the new certificate is used", async || {
        (ask(&keyed, &second) == Some(200)).then_some(())
    })
    .await;
    assert_eq!(ask(&keyed, &first), None);

    std::fs::write(&certificate, "nonsense").unwrap();
    eventually("the log says that it is not used", async || {
        let printed = "the new TLS certificate is not used";
        hutch.log().contains(printed).then_some(())
    })
    .await;
    assert_eq!(ask(&keyed, &second), Some(200));

    let third = renew(directory.path(), "third");
    eventually("the third certificate is used", async || {
        (ask(&keyed, &third) == Some(200)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facade_does_not_start_with_an_invalid_certificate() {
    let world = World::new("tls-none").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tls.pem");
    std::fs::write(&file, "nonsense").unwrap();
    let file = file.to_string_lossy();
    let arguments = [KEYED, "--tls-cert", &file, "--tls-key", &file];
    let hutch = world.hutch_on(world.environment, "facade", &arguments);
    eventually("hutch says why it ends", async || {
        let log = hutch.log();
        log.contains("no certificate in PEM").then_some(())
    })
    .await;
    assert!(!hutch.ends().await.success());
}
