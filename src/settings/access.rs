//! Settings of the access to the facade: authentication, TLS and limits.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Facade, bytes, duration};

/// Authentication, TLS and limits of the REST facade.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access to the REST facade")]
pub struct Access {
    /// Accept every request. --listen must be a loopback address. Without this flag, requests
    /// need an API key (see hutch keys) or a Kubernetes token.
    #[arg(long, env = "HUTCH_INSECURE_NO_AUTH")]
    pub insecure_no_auth: bool,
    /// Write a log line for every request. Always on with authentication.
    #[arg(long, env = "HUTCH_AUDIT")]
    pub audit: bool,
    /// Certificate for TLS, in PEM. It is read again when it changes.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        env = "HUTCH_TLS_CERT"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        env = "HUTCH_TLS_KEY"
    )]
    pub tls_key: Option<PathBuf>,
    /// The longest time that a request may take. It must be longer than any command for which
    /// clients wait.
    #[arg(long, default_value = "1h", value_parser = duration, env = "HUTCH_REQUEST_TIMEOUT")]
    pub request_timeout: Duration,
    /// Most bytes of request bodies in progress and answers being sent. A body may need
    /// several times its size in memory. One namespace may use a quarter, and at least 48Mi.
    #[arg(long, default_value = "256Mi", value_parser = in_flight, env = "HUTCH_MAX_IN_FLIGHT")]
    pub max_in_flight: u64,
}

impl Facade {
    /// Checks that the network cannot reach a facade without authentication.
    ///
    /// # Errors
    /// The text for the user, with two ways to correct it.
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
    /// Namespace of the Secret with the keys. It must be the same as for the facade. Default:
    /// the kubeconfig's.
    #[arg(
        long,
        global = true,
        value_name = "NAMESPACE",
        env = "HUTCH_OPERATOR_NAMESPACE"
    )]
    pub operator_namespace: Option<String>,
}

/// A number of bytes that is not less than the largest request body. Otherwise such a request
/// would always be refused.
fn in_flight(text: &str) -> Result<u64, String> {
    const MIN_BYTES: u64 = 48 << 20;
    let size = bytes(text)?;
    let enough = (size >= MIN_BYTES).then_some(size);
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
    fn without_authentication_only_loopback_is_allowed() {
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
