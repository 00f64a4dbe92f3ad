//! The rules of Hutch without its machinery: names, conditions, deadlines, buckets, and the
//! traits that the machinery implements. Nothing here reads a clock, does I/O or needs a
//! client; time is an argument. `sync` has the locks that several crates share.

pub mod access;
pub mod agent;
pub mod backoff;
pub mod buckets;
pub mod conditions;
pub mod deadlines;
pub mod exec;
pub mod files;
pub mod interfaces;
pub mod names;
pub mod objects;
pub mod reasons;
pub mod s3;
pub mod search;
pub mod sync;
