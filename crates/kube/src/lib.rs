//! The one way to the API server: clients, caches fed by one watch per kind, writes
//! with deadlines and a lease check, events, leader election. It knows the custom
//! resources, and nothing else of Hutch.

pub mod apply;
pub mod caches;
pub mod client;
pub mod events;
pub mod lease;
pub mod node;
mod trim;
mod unreadable;
mod volumes;
pub mod watches;
