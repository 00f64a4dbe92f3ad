//! The REST facade: two contracts on one listener. This layer parses requests,
//! enforces limits and writes responses. `hutch-service` decides what a request does.
//! Nothing here knows Kubernetes or the database.

mod access;
mod body;
mod metrics;
mod operations;
mod project;
mod router;
mod server;
mod tenant;
pub mod tls;

pub use access::AuthSettings;
pub use metrics::HttpMetrics;
pub use project::OPERATIONS as PROJECT_ROUTES;
pub use router::router;
pub use server::serve;
pub use tenant::OPERATIONS as TENANT_ROUTES;
