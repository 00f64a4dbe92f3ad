//! One call to an agent: its deadline, and the meaning of a refusal. Texts of an agent
//! are truncated, because a sandbox may send texts of any length.

use std::time::Duration;

use bytes::BytesMut;
use tonic::{Code, Status};

use hutch_core::agent::AgentError;

/// Characters of an agent's text that are kept.
pub const MAX_TEXT_CHARS: usize = 1024;

/// The agent's refusal; `None` if the status means that the channel broke.
pub fn refusal(status: &Status) -> Option<AgentError> {
    let text = || {
        status
            .message()
            .chars()
            .take(MAX_TEXT_CHARS)
            .collect::<String>()
    };
    match status.code() {
        Code::InvalidArgument => Some(AgentError::Invalid(text())),
        Code::NotFound => Some(AgentError::NotFound(text())),
        Code::AlreadyExists => Some(AgentError::Exists(text())),
        Code::FailedPrecondition => Some(AgentError::Unsuitable(text())),
        Code::PermissionDenied => Some(AgentError::Denied(text())),
        Code::ResourceExhausted => Some(AgentError::Full(text())),
        // An agent's release stays the same while its pod lives.
        Code::Unimplemented => Some(AgentError::Unsuitable(
            "the sandbox's agent is older than this and cannot do it: restart the sandbox".into(),
        )),
        _ => None,
    }
}

/// Appends `data` up to `limit` bytes in total. Returns false if it dropped some. The
/// agent truncates its output at the same limit, but is not trusted to do so.
pub fn append_within(kept: &mut BytesMut, data: &[u8], limit: u64) -> bool {
    let room = limit.saturating_sub(kept.len() as u64);
    let fits = usize::try_from(room).map_or(data.len(), |room| room.min(data.len()));
    kept.extend_from_slice(&data[..fits]);
    fits == data.len()
}

/// Waits for a call's answer until `deadline` has passed. A call without an answer is
/// lost: the agent may have done it.
pub async fn answer<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, AgentError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result.map_err(|status| {
            let lost = || AgentError::Lost(status.message().chars().take(MAX_TEXT_CHARS).collect());
            refusal(&status).unwrap_or_else(lost)
        }),
        Err(_) => Err(AgentError::Lost(format!("no answer within {deadline:?}"))),
    }
}
