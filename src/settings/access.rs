//! Settings of who may use the facade: with or without authentication, over TLS or
//! not, and how much of the process requests may take.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Facade, bytes, duration};

/// Who may use the REST facade, and how much of it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Who may use the REST facade")]
pub struct Access {
    /// Let everybody in who reaches the port, which must be on a loopback address.
    /// Without this, requests need an API key (see hutch keys) or a Kubernetes token.
    #[arg(long, env = "HUTCH_INSECURE_NO_AUTH")]
    pub insecure_no_auth: bool,
    /// A line in the log about every request, also with --insecure-no-auth.
    #[arg(long, env = "HUTCH_AUDIT")]
    pub audit: bool,
    /// Certificate to serve TLS with, in PEM; read anew when it changes.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        env = "HUTCH_TLS_CERT"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        env = "HUTCH_TLS_KEY"
    )]
    pub tls_key: Option<PathBuf>,
    /// How long a request may take. Longer than any command that is to be waited for.
    #[arg(long, default_value = "1h", value_parser = duration, env = "HUTCH_REQUEST_TIMEOUT")]
    pub request_timeout: Duration,
    /// Bytes of request bodies that are being worked on, each of which may take several
    /// times its size in memory, and of answers that are being sent, at most. One
    /// namespace gets a quarter, or the largest body.
    #[arg(long, default_value = "256Mi", value_parser = in_flight, env = "HUTCH_MAX_IN_FLIGHT")]
    pub max_in_flight: u64,
}

impl Facade {
    /// Whether the settings would let anybody in from the network.
    ///
    /// # Errors
    /// What to do about it.
    pub fn check(&self) -> Result<(), String> {
        if self.access.insecure_no_auth && !self.listen.ip().is_loopback() {
            let listen = self.listen;
            return Err(format!(
                "--insecure-no-auth serves loopback addresses only, and --listen says {listen}: \
                 leave --insecure-no-auth out and make API keys with `hutch keys create`, or \
                 listen on 127.0.0.1:{}",
                listen.port()
            ));
        }
        Ok(())
    }
}

/// Settings of `hutch keys`.
#[derive(Clone, Debug, Args)]
pub struct KeyRing {
    /// Namespace of the Secret with the keys: what --operator-namespace says to the
    /// facade. Default: the kubeconfig's.
    #[arg(
        long,
        global = true,
        value_name = "NAMESPACE",
        env = "HUTCH_OPERATOR_NAMESPACE"
    )]
    pub operator_namespace: Option<String>,
}

/// At least the largest request body, or that would never be let in.
fn in_flight(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 48 << 20;
    let size = bytes(text)?;
    let enough = (size >= LEAST).then_some(size);
    enough.ok_or_else(|| "at least 48Mi are needed, the size of the largest request".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        api: Facade,
    }

    #[test]
    fn nobody_is_let_in_from_the_network_without_a_key() {
        let check = |arguments: &[&str]| {
            let line = Line::try_parse_from([&["hutch"], arguments].concat());
            line.map_err(|error| error.to_string())?.api.check()
        };
        assert!(check(&[]).is_ok());
        assert!(check(&["--listen", "0.0.0.0:1"]).is_ok());
        assert!(check(&["--insecure-no-auth"]).is_ok());
        assert!(check(&["--insecure-no-auth", "--listen", "[::1]:0"]).is_ok());
        for listen in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            let error = check(&["--insecure-no-auth", "--listen", listen]).unwrap_err();
            assert!(error.contains("hutch keys create"), "{error}");
        }
        assert!(check(&["--tls-cert", "x"]).is_err());
        assert!(check(&["--max-in-flight", "32Mi"]).is_err());
    }
}
