//! The REST facade: two contracts on one listener. This layer parses, limits and
//! words the answers; what a request means is decided in `service`. It knows
//! neither Kubernetes nor the database.

mod access;
mod body;
mod metrics;
pub mod ops;
mod patience;
mod project;
mod router;
pub mod server;
mod tenant;
pub mod tls;

pub use access::GateSettings;
pub use metrics::HttpMetrics;
pub use router::router;
