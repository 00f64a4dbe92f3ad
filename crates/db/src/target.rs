//! The address of the database and the login. Only the options hold the password:
//! nothing here is `Debug`, and `Display` uses only the parts that are no secret.

use std::fmt;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Error, PgConnection};

/// The database's part of the settings.
pub struct DatabaseSettings {
    /// A complete URL. If it is set, the other fields are ignored.
    pub url: Option<String>,
    /// Host name, address, or directory of a unix socket.
    pub host: String,
    /// TCP port; for a unix socket, the number in the socket's file name.
    pub port: u16,
    /// Role to log in as.
    pub user: String,
    /// Password of the role.
    pub password: String,
    /// Name of the database.
    pub name: String,
    /// `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`.
    pub sslmode: String,
}

/// A database to connect to. `Display` shows user, host, port and database without
/// the password.
pub struct Target(PgConnectOptions);

/// The known parameters of a URL. Others are removed, because sqlx would log them
/// with their values.
const URL_PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

impl Target {
    /// # Errors
    /// A text that says which setting is wrong. It repeats no part of the settings.
    pub fn new(settings: &DatabaseSettings) -> Result<Self, String> {
        let options = match &settings.url {
            Some(url) => without_unknown_parameters(url).parse::<PgConnectOptions>().map_err(|_| {
                "DATABASE_URL cannot be understood: it should look like postgres://user:password@host:5432/name?sslmode=disable".to_owned()
            })?,
            None => PgConnectOptions::new_without_pgpass()
                .host(&settings.host)
                .port(settings.port)
                .username(&settings.user)
                .password(&settings.password)
                .database(&settings.name)
                .ssl_mode(settings.sslmode.parse().map_err(|_| "POSTGRES_SSLMODE is none of PostgreSQL's".to_owned())?),
        };
        Ok(Self(
            options
                .application_name("hutch")
                .disable_statement_logging(),
        ))
    }

    /// Opens a connection. The caller sets a deadline.
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        let (first, second) = tls_modes(self.0.get_ssl_mode());
        match PgConnection::connect_with(&self.0.clone().ssl_mode(first)).await {
            Err(error) if may_be_tls_mode(&error) => match second {
                Some(mode) => PgConnection::connect_with(&self.0.clone().ssl_mode(mode)).await,
                None => Err(error),
            },
            result => result,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, name) = (self.0.get_username(), self.0.get_database());
        write!(f, "{user}@")?;
        match self.0.get_socket() {
            Some(directory) => write!(f, "{}", directory.display())?,
            None => f.write_str(self.0.get_host())?,
        }
        write!(f, ":{}/{}", self.0.get_port(), name.unwrap_or(user))
    }
}

/// The TLS mode to try first, and the mode to try if the server refuses it. This is
/// libpq's table; sqlx implements only its first column.
const fn tls_modes(mode: PgSslMode) -> (PgSslMode, Option<PgSslMode>) {
    match mode {
        PgSslMode::Allow => (PgSslMode::Disable, Some(PgSslMode::Require)),
        PgSslMode::Prefer => (PgSslMode::Prefer, Some(PgSslMode::Disable)),
        mode => (mode, None),
    }
}

/// True if the TLS mode may be the cause: the handshake failed, or pg_hba.conf has
/// no line for such a connection.
fn may_be_tls_mode(error: &Error) -> bool {
    match error {
        Error::Tls(_) => true,
        Error::Database(refusal) => refusal.code().as_deref() == Some("28000"),
        _ => false,
    }
}

/// Removes all parameters that [`URL_PARAMETERS`] does not list.
fn without_unknown_parameters(url: &str) -> String {
    let Some((head, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let mut kept = form_urlencoded::Serializer::new(String::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if URL_PARAMETERS.contains(&key.as_ref()) || key.starts_with("options[") {
            kept.append_pair(&key, &value);
        } else {
            tracing::warn!(%key, "DATABASE_URL: a parameter is not known and left out");
        }
    }
    format!("{head}?{}", kept.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: Option<&str>) -> DatabaseSettings {
        DatabaseSettings {
            url: url.map(str::to_owned),
            host: "db.example".to_owned(),
            port: 5433,
            user: "crush".to_owned(),
            password: "secret-word".to_owned(),
            name: "crush".to_owned(),
            sslmode: "verify-full".to_owned(),
        }
    }

    #[test]
    fn neither_display_nor_errors_show_the_password() {
        let target = Target::new(&settings(None)).ok().unwrap();
        assert_eq!(target.to_string(), "crush@db.example:5433/crush");
        assert!(matches!(target.0.get_ssl_mode(), PgSslMode::VerifyFull));
        let url = "postgres://me:secret-word@other:1/base?sslmode=require&x=secret-word";
        let target = Target::new(&settings(Some(url))).ok().unwrap();
        assert_eq!(target.to_string(), "me@other:1/base");
        assert!(matches!(target.0.get_ssl_mode(), PgSslMode::Require));
        assert!(!without_unknown_parameters(url).contains("x="));
        for wrong in [
            "secret-word",
            "postgres://u:secret-word@h:port/x",
            "postgres://h/?sslmode=secret-word",
        ] {
            let text = Target::new(&settings(Some(wrong))).err().unwrap();
            assert!(!text.contains("secret-word"), "{text}");
        }
    }
}
