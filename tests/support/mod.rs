//! The base of all tests on a real cluster: the cluster itself, a namespace and a Hutch
//! process per test, HTTP clients, and the objects, events and logs that explain a failure.
//! Only the drivers of `declared` are fakes.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod access;
pub mod audit;
pub mod backend;
pub mod buckets;
pub mod chart;
pub mod collector;
pub mod declared;
pub mod environment;
pub mod hutch;
pub mod late;
pub mod node;
pub mod postgres;
pub mod proxy;
pub mod rights;
pub mod s3;
pub mod steps;
pub mod tenant;
pub mod volume;
pub mod world;

pub use hutch::Hutch;
pub use s3::S3;
pub use tenant::Tenant;
pub use world::World;
