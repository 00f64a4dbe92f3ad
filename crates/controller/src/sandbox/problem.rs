//! What stands in the way of a sandbox, in words for its conditions.

/// A reason and a message that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Reason of the condition.
    pub reason: &'static str,
    /// Message of the condition.
    pub message: String,
    /// Whether somebody has to change something; else it may pass by itself.
    pub failed: bool,
}

impl Problem {
    /// Somebody has to change something.
    pub fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            failed: true,
            ..Self::waiting(reason, message)
        }
    }

    /// It may pass by itself.
    pub fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            failed: false,
        }
    }

    /// A step of a normal start.
    pub fn starting(message: impl Into<String>) -> Self {
        Self::waiting("Starting", message)
    }
}
