//! The `hutch` binary.

use std::process::ExitCode;

use clap::Parser;
use hutch::cli::Cli;

fn main() -> ExitCode {
    hold_little_memory();
    match hutch::runtime::main(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hutch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Gives large pieces of memory back as they are freed. The allocator would
/// otherwise learn from one file of 32 MiB to keep as much for ever, in each of
/// its arenas.
fn hold_little_memory() {
    const THRESHOLD: i32 = 256 << 10;
    // SAFETY: mallopt has no preconditions; it only sets allocator parameters.
    #[allow(unsafe_code)]
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
