//! Parts of every long-running program of Hutch: `server` (an HTTP listener with limits),
//! `ops` (probes and metrics), `signals`, and `memory` (the allocator's limits). Nothing here
//! knows sandboxes.

mod memory;
mod ops;
pub mod server;
mod signals;
mod write_timeout;

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;

pub use memory::limit_allocator;
pub use ops::Ops;
pub use signals::cancel_on_signal;

/// Listens on `address`, the value of the command line's `flag`.
///
/// # Errors
/// If the address is in use or not one of this machine. The error names the flag.
pub async fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another address with {flag}"))
}
