//! Settings of the shared database.

use clap::Args;

/// The address and login of the database. Names and defaults of the variables are fixed,
/// because the backend reads the same ones. If none is set, there is no database. An empty
/// variable counts as not set.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Database (none of these: no database)")]
pub struct Database {
    /// URL of the database. It takes precedence over the others. Use the variable: every user
    /// of the machine can see arguments.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<Secret>,
    /// Host, or directory of the unix socket. Default: localhost.
    #[arg(long, env = "POSTGRES_HOST", value_name = "HOST")]
    pub postgres_host: Option<String>,
    /// Port. Default: 5432.
    #[arg(long, env = "POSTGRES_PORT", value_name = "PORT", value_parser = port)]
    pub postgres_port: Option<Port>,
    /// Role. Default: crush.
    #[arg(long, env = "POSTGRES_USER", value_name = "USER")]
    pub postgres_user: Option<String>,
    /// Password of the role. Default: 123456. Use the variable.
    #[arg(
        long,
        env = "POSTGRES_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub postgres_password: Option<Secret>,
    /// Name of the database. Default: crush.
    #[arg(long, env = "POSTGRES_DB", value_name = "NAME")]
    pub postgres_db: Option<String>,
    /// Encryption of the connection, and checks of the server's certificate: disable, allow,
    /// prefer, require, verify-ca or verify-full. Default: disable.
    #[arg(long, env = "POSTGRES_SSLMODE", value_name = "MODE", value_parser = sslmode)]
    pub postgres_sslmode: Option<String>,
}

/// A text that `Debug` and `--help` never show.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A port; `None` if Kubernetes set the variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(pub Option<u16>);

/// If the namespace has a Service `postgres`, Kubernetes sets `POSTGRES_PORT` to `tcp://…` in
/// every pod. Such a value is ignored.
fn port(text: &str) -> Result<Port, String> {
    if text.is_empty() || text.starts_with("tcp://") {
        return Ok(Port(None));
    }
    match text.parse() {
        Ok(port) if port > 0 => Ok(Port(Some(port))),
        _ => Err("a number from 1 to 65535 is needed, such as 5432".to_owned()),
    }
}

fn sslmode(text: &str) -> Result<String, String> {
    const MODES: [&str; 6] = [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ];
    if text.is_empty() || MODES.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("one of {} is needed", MODES.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_kubernetes_sets_is_not_a_port() {
        assert_eq!(port("5433"), Ok(Port(Some(5433))));
        for none in ["", "tcp://10.0.0.1:5432"] {
            assert_eq!(port(none), Ok(Port(None)));
        }
        assert!(port("0").is_err() && port("x").is_err() && port("70000").is_err());
        assert!(sslmode("verify-full").is_ok() && sslmode("yes").is_err());
    }
}
