//! The one place that talks to the API server: clients, caches fed by one watch
//! per kind, writes with deadlines and a lease check, events, leader election,
//! and the resources as the facade uses them. Knows the custom resources and the
//! domain, and neither controllers nor HTTP.

pub mod access;
pub mod api_keys;
pub mod apply;
pub mod bucket_keys;
pub mod caches;
pub mod client;
pub mod events;
pub mod exposures;
pub mod guests;
pub mod lease;
pub mod node;
pub mod projects;
mod remembered;
pub mod sandboxes;
pub mod sessions;
pub mod tokens;
mod trim;
mod volumes;
pub mod watches;
