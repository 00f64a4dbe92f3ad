//! The operator's program: the command line, the settings, and the one place that
//! builds the parts and joins them. The parts are crates under `crates/`;
//! `docs/architecture.md` is their map.

pub mod cli;
pub mod runtime;
mod settings;
