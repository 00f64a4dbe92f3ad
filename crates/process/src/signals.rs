//! SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that a second signal ends at once.
const ENDED_BY_SIGNAL: i32 = 130;

/// Cancels `shutdown` at the first SIGTERM or SIGINT. The process then stops its parts in
/// order. A second signal ends the process at once.
pub async fn cancel_on_signal(shutdown: CancellationToken) {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("signals cannot be received");
        return;
    };
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let name = next().await;
    tracing::info!("{name}: stopping");
    shutdown.cancel();
    let name = next().await;
    tracing::warn!("{name} again: stopping at once");
    std::process::exit(ENDED_BY_SIGNAL);
}
