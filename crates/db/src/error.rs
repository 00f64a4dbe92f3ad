//! Maps errors of the server and of sqlx to [`DatabaseError`]. The texts are
//! those of the server or sqlx. Neither repeats a password.

use sqlx::Error;

use hutch_core::interfaces::DatabaseError;

/// Classifies an error by its SQLSTATE (PostgreSQL, appendix A).
pub fn classify(error: &Error) -> DatabaseError {
    let Error::Database(refusal) = error else {
        let text = error.to_string();
        return match error {
            Error::ColumnDecode { .. } | Error::ColumnNotFound(_) | Error::Decode(_) => {
                DatabaseError::Schema(text)
            }
            _ => DatabaseError::Away(text),
        };
    };
    let text = refusal.message().to_owned();
    let code = refusal.code().unwrap_or_default();
    match code.as_ref() {
        // Undefined column, table or schema; a type other than text.
        "42703" | "42P01" | "3F000" | "42804" | "42883" => DatabaseError::Schema(text),
        "42501" => DatabaseError::Forbidden(text),
        "25006" => DatabaseError::ReadOnly(text),
        // Lock timeout, statement timeout, deadlock, serialization failure.
        "55P03" | "57014" | "40P01" | "40001" => DatabaseError::Busy(text),
        code if is_away(code) => DatabaseError::Away(text),
        _ => DatabaseError::Refused(text),
    }
}

/// True if the connection is broken, so that a new one may help.
pub fn is_connection_lost(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => true,
        Error::Database(refusal) => refusal.code().is_some_and(|code| {
            code.starts_with("08") || matches!(code.as_ref(), "57P01" | "57P02" | "57P03" | "57P05")
        }),
        _ => false,
    }
}

/// The classes are: connection, authorization, missing database, resources,
/// shutdown, system error, internal error.
fn is_away(code: &str) -> bool {
    ["08", "28", "3D", "53", "57", "58", "XX"]
        .iter()
        .any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_means_that_the_database_is_away() {
        let broken = Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(is_connection_lost(&broken) && classify(&broken).away());
        let odd = Error::ColumnNotFound("container_name".to_owned());
        assert!(!is_connection_lost(&odd));
        assert_eq!(classify(&odd).kind(), "SchemaMismatch");
    }

    #[test]
    fn a_refused_login_means_that_the_database_is_away() {
        for code in ["28P01", "3D000", "53300", "57P03"] {
            assert!(is_away(code), "{code}");
        }
        assert!(!is_away("23514") && !is_away("P0001"));
    }
}
