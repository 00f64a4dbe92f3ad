//! What every long-running program of Hutch has: `server` (an HTTP listener with
//! limits), `ops` (probes and metrics on it), signals, and the allocator's limits.
//! It knows nothing of sandboxes.

mod memory;
mod ops;
mod patience;
pub mod server;
mod signals;

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;

pub use memory::limit_allocator;
pub use ops::Ops;
pub use signals::cancel_on_signal;

/// Listens at `address`, which the user chose by `flag`.
///
/// # Errors
/// When the address cannot be had; the error names the flag.
pub async fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another address with {flag}"))
}
