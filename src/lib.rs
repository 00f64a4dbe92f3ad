//! The operator's program: `cli` and `settings` are the command line, `runtime` builds the
//! parts and joins them. The parts are the crates in `crates/`. `docs/architecture.md` is the
//! map.

pub mod cli;
pub mod runtime;
mod settings;
