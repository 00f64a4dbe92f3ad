<<<<<<< HEAD
//! The one place that talks to the API server: clients, caches fed by one watch
//! per kind, writes with deadlines and a lease check, events, leader election,
//! and the resources as the facade uses them. Knows the custom resources and the
//! domain, and neither controllers nor HTTP.
=======
//! The one place that talks to the API server for the controllers: caches fed
//! by one watch per kind, writes with deadlines and a lease check, events, and
//! leader election. Knows the custom resources and the domain, and neither
//! controllers nor HTTP.
>>>>>>> wt-controller

pub mod apply;
pub mod caches;
pub mod client;
pub mod events;
pub mod lease;
pub mod sandboxes;
mod trim;
