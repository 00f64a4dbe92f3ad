//! Settings of the shared database.

use clap::Args;

/// Where the database is. The names and defaults of the variables are fixed: the
/// backend reads the same. With none of them set there is no database. An empty
/// variable is one that is not set.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Database (none of these: no database)")]
pub struct Database {
    /// URL of the database; wins over all others. Use the variable: arguments
    /// can be seen by everybody on the machine.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<Secret>,
    /// Its host, or the folder of its socket. Default: localhost.
    #[arg(long, env = "POSTGRES_HOST", value_name = "HOST")]
    pub postgres_host: Option<String>,
    /// Its port. Default: 5432.
    #[arg(long, env = "POSTGRES_PORT", value_name = "PORT", value_parser = port)]
    pub postgres_port: Option<Port>,
    /// Role. Default: crush.
    #[arg(long, env = "POSTGRES_USER", value_name = "USER")]
    pub postgres_user: Option<String>,
    /// The role's password. Default: 123456. Use the variable.
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
    /// Whether the connection is encrypted, and what of the server's certificate
    /// is checked: disable, allow, prefer, require, verify-ca or verify-full.
    /// Default: disable.
    #[arg(long, env = "POSTGRES_SSLMODE", value_name = "MODE", value_parser = sslmode)]
    pub postgres_sslmode: Option<String>,
}

/// A text that is shown nowhere.
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

/// A port, or none where the variable is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(pub Option<u16>);

/// In a pod, Kubernetes itself sets `POSTGRES_PORT` to `tcp://…` where there is
/// a Service `postgres`: that is none.
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
    fn variables_that_kubernetes_sets_for_a_service_are_no_ports() {
        assert_eq!(port("5433"), Ok(Port(Some(5433))));
        for none in ["", "tcp://10.0.0.1:5432"] {
            assert_eq!(port(none), Ok(Port(None)));
        }
        assert!(port("0").is_err() && port("x").is_err() && port("70000").is_err());
        assert!(sslmode("verify-full").is_ok() && sslmode("yes").is_err());
    }
}
