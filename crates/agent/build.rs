//! Builds the builtins that the agent's copies of bash have: a library that bash
//! loads, and that needs nothing but what bash itself has loaded.

use std::env;
use std::path::PathBuf;

const FOLDER: &str = "bash";
const SOURCES: [&str; 2] = ["bash/fork_server.c", "bash/dump.c"];

fn main() {
    println!("cargo::rerun-if-changed={FOLDER}");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("bash.so");
    let status = cc::Build::new()
        .warnings_into_errors(true)
        .extra_warnings(true)
        .opt_level_str("s")
        .debug(false)
        .get_compiler()
        .to_command()
        .args(["-shared", "-nostdlib", "-s", "-fno-stack-protector"])
        .args(["-Wl,-z,noseparate-code", "-Wl,-z,relro", "-Wl,-z,now", "-o"])
        .arg(out)
        .args(SOURCES)
        .status()
        .unwrap();
    assert!(status.success(), "the C compiler has failed: {status}");
}
