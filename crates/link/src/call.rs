//! One call to an agent: its deadline, and what a refusal means to the caller.
//! The texts of refusals are cut: what comes out of a sandbox is not trusted to
//! be short.

use std::time::Duration;

use bytes::BytesMut;
use tonic::{Code, Status};

use hutch_core::agent::AgentError;

/// Characters of an agent's text that are kept.
const TEXT: usize = 1024;

/// The refusal in `status`; `None` where nobody refused and the channel broke.
pub fn refusal(status: &Status) -> Option<AgentError> {
    let text = || status.message().chars().take(TEXT).collect::<String>();
    match status.code() {
        Code::InvalidArgument => Some(AgentError::Invalid(text())),
        Code::NotFound => Some(AgentError::NotFound(text())),
        Code::AlreadyExists => Some(AgentError::Exists(text())),
        Code::FailedPrecondition => Some(AgentError::Unsuitable(text())),
        Code::PermissionDenied => Some(AgentError::Denied(text())),
        Code::ResourceExhausted => Some(AgentError::Full(text())),
        // Agents stay what they are as long as their pod lives.
        Code::Unimplemented => Some(AgentError::Unsuitable(
            "the sandbox's agent is older than this and cannot do it: restart the sandbox".into(),
        )),
        _ => None,
    }
}

/// Appends what is within the limit; returns whether that is all. The agent cuts
/// there already, and is held to it.
pub fn keep(kept: &mut BytesMut, data: &[u8], limit: u64) -> bool {
    let room = limit.saturating_sub(kept.len() as u64);
    let fits = usize::try_from(room).map_or(data.len(), |room| room.min(data.len()));
    kept.extend_from_slice(&data[..fits]);
    fits == data.len()
}

/// The answer of a call that has been handed over, within `deadline`.
pub async fn answer<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, AgentError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result.map_err(|status| {
            let lost = || AgentError::Lost(status.message().chars().take(TEXT).collect());
            refusal(&status).unwrap_or_else(lost)
        }),
        Err(_) => Err(AgentError::Lost(format!("no answer within {deadline:?}"))),
    }
}
