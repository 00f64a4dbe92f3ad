//! The rules of Hutch without its machinery: names, conditions, deadlines, what
//! an execution is, and the interfaces behind which the machinery lies. Pure:
//! no clock, no I/O, no client; time is an argument.

pub mod access;
pub mod agent;
pub mod buckets;
pub mod conditions;
pub mod deadlines;
pub mod exec;
pub mod files;
pub mod interfaces;
pub mod names;
pub mod search;
pub mod turns;
