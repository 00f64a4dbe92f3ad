//! An obstacle for a sandbox, as its conditions report it.

use hutch_core::reasons::Reason;

/// A reason, and a message that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Reason of the condition.
    pub reason: Reason,
    /// Message of the condition.
    pub message: String,
    /// True if somebody has to change something. Otherwise it may pass by itself.
    pub failed: bool,
}

impl Problem {
    /// A problem that lasts until somebody changes something.
    pub fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            failed: true,
            ..Self::waiting(reason, message)
        }
    }

    /// A problem that may pass by itself.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            failed: false,
        }
    }

    /// A step of a normal start.
    pub fn starting(message: impl Into<String>) -> Self {
        Self::waiting(Reason::Starting, message)
    }

    /// The name of an object that Hutch wants to create is taken by another object.
    pub fn name_taken(kind: &str, name: &str) -> Self {
        let message = format!("{kind} {name} belongs to something else: remove it");
        Self::failed(Reason::NameConflict, message)
    }
}
