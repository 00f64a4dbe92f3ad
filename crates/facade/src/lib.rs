//! The REST facade: two contracts on one listener. This layer parses, limits and
//! words the answers; what a request means is decided in `service`. It knows
//! neither Kubernetes nor the database.

mod access;
mod body;
mod metrics;
mod project;
mod router;
mod server;
mod tenant;
pub mod tls;

pub use access::GateSettings;
pub use metrics::HttpMetrics;
pub use router::router;
pub use server::serve;
