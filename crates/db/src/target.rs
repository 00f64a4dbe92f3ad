//! Where the database is and how to get in. The password is in the options and
//! nowhere else: nothing here is `Debug`, and what is shown is put together
//! from the parts that may be.

use std::fmt;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Error, PgConnection};

/// What the settings say of the database.
pub struct DatabaseSettings {
    /// A URL that says everything; the rest is not looked at.
    pub url: Option<String>,
    /// Host name, address, or folder of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Name of the database.
    pub name: String,
    /// `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`.
    pub sslmode: String,
}

/// A database to connect to. `Display` says which, without the password.
pub struct Target(PgConnectOptions);

/// Parameters of a URL that mean something here. Others are left out before
/// sqlx would log them with their values.
const PARAMETERS: &[&str] = &[
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
    /// What is wrong with the settings, without a part of them.
    pub fn new(settings: &DatabaseSettings) -> Result<Self, String> {
        let options = match &settings.url {
            Some(url) => known(url).parse::<PgConnectOptions>().map_err(|_| {
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

    /// Opens a connection. There is no deadline here.
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        let (first, second) = modes(self.0.get_ssl_mode());
        match PgConnection::connect_with(&self.0.clone().ssl_mode(first)).await {
            Err(error) if unfit(&error) => match second {
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
            Some(folder) => write!(f, "{}", folder.display())?,
            None => f.write_str(self.0.get_host())?,
        }
        write!(f, ":{}/{}", self.0.get_port(), name.unwrap_or(user))
    }
}

/// What is tried first, and what then where the server will not have it so:
/// libpq's table of modes, of which sqlx knows the first column.
const fn modes(mode: PgSslMode) -> (PgSslMode, Option<PgSslMode>) {
    match mode {
        PgSslMode::Allow => (PgSslMode::Disable, Some(PgSslMode::Require)),
        PgSslMode::Prefer => (PgSslMode::Prefer, Some(PgSslMode::Disable)),
        mode => (mode, None),
    }
}

/// Whether TLS, or its lack, may be what was wrong: the handshake failed, or
/// pg_hba.conf has no line for such a connection.
fn unfit(error: &Error) -> bool {
    match error {
        Error::Tls(_) => true,
        Error::Database(refusal) => refusal.code().as_deref() == Some("28000"),
        _ => false,
    }
}

/// The URL without the parameters that are not known.
fn known(url: &str) -> String {
    let Some((head, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let mut kept = form_urlencoded::Serializer::new(String::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if PARAMETERS.contains(&key.as_ref()) || key.starts_with("options[") {
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
    fn what_is_shown_has_no_password() {
        let target = Target::new(&settings(None)).ok().unwrap();
        assert_eq!(target.to_string(), "crush@db.example:5433/crush");
        assert!(matches!(target.0.get_ssl_mode(), PgSslMode::VerifyFull));
        let url = "postgres://me:secret-word@other:1/base?sslmode=require&x=secret-word";
        let target = Target::new(&settings(Some(url))).ok().unwrap();
        assert_eq!(target.to_string(), "me@other:1/base");
        assert!(matches!(target.0.get_ssl_mode(), PgSslMode::Require));
        assert!(!known(url).contains("x="));
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
