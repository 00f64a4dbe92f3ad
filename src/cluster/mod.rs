//! The one place that talks to the API server for the controllers: caches fed
//! by one watch per kind, writes with deadlines and a lease check, events, and
//! leader election. Knows the custom resources and the domain, and neither
//! controllers nor HTTP.

pub mod apply;
pub mod caches;
pub mod client;
pub mod events;
pub mod lease;
mod trim;
