//! Builds the builtin that makes bash a fork server: a library that bash loads,
//! and that needs nothing but what bash itself has loaded.

use std::env;
use std::path::PathBuf;

const SOURCE: &str = "src/execution/fork_server.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("fork_server.so");
    let status = cc::Build::new()
        .warnings_into_errors(true)
        .extra_warnings(true)
        .opt_level_str("s")
        .debug(false)
        .get_compiler()
        .to_command()
        .args(["-shared", "-nostdlib", "-s", "-fno-stack-protector"])
        .args(["-Wl,-z,noseparate-code", "-Wl,-z,relro", "-Wl,-z,now", "-o"])
        .args([out.as_os_str(), SOURCE.as_ref()])
        .status()
        .unwrap();
    assert!(status.success(), "the C compiler has failed: {status}");
}
