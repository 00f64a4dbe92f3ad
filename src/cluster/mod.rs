//! Everything that speaks to the API server about resources.

pub mod client;
