//! What the server's and the client's errors mean. The texts are the server's
//! own and sqlx's, neither of which repeats a password.

use sqlx::Error;

use hutch_core::interfaces::DatabaseError;

/// Sorts an error by its SQLSTATE (PostgreSQL, appendix A).
pub fn sorted(error: &Error) -> DatabaseError {
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
        // Undefined column, table, schema; other types than text.
        "42703" | "42P01" | "3F000" | "42804" | "42883" => DatabaseError::Schema(text),
        "42501" => DatabaseError::Forbidden(text),
        "25006" => DatabaseError::ReadOnly(text),
        // A lock or statement that took too long, a deadlock, a serialization failure.
        "55P03" | "57014" | "40P01" | "40001" => DatabaseError::Busy(text),
        code if away(code) => DatabaseError::Away(text),
        _ => DatabaseError::Refused(text),
    }
}

/// Whether the connection itself is lost, so that a fresh one may do better.
pub fn lost(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => true,
        Error::Database(refusal) => refusal.code().is_some_and(|code| {
            code.starts_with("08") || matches!(code.as_ref(), "57P01" | "57P02" | "57P03" | "57P05")
        }),
        _ => false,
    }
}

/// Connections, authorization, no such database, resources, shutdown, broken.
fn away(code: &str) -> bool {
    ["08", "28", "3D", "53", "57", "58", "XX"]
        .iter()
        .any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_of_the_server_means_that_it_is_away() {
        let broken = Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(lost(&broken) && sorted(&broken).away());
        let odd = Error::ColumnNotFound("container_name".to_owned());
        assert!(!lost(&odd));
        assert_eq!(sorted(&odd).kind(), "SchemaMismatch");
    }

    #[test]
    fn refused_logins_mean_that_it_is_away() {
        assert!(away("28P01") && away("3D000") && away("53300") && away("57P03"));
        assert!(!away("23514") && !away("P0001"));
    }
}
