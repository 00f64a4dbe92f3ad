//! Builds `bash.so`, the bash builtins of the agent (`bash/*.c`). bash loads it; it
//! links to nothing and uses only symbols that bash itself has loaded.

use std::env;
use std::error::Error;
use std::path::PathBuf;

const SOURCE_DIRECTORY: &str = "bash";
const SOURCES: [&str; 2] = ["bash/fork_server.c", "bash/dump.c"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCE_DIRECTORY}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?).join("bash.so");
    let status = cc::Build::new()
        .warnings_into_errors(true)
        .extra_warnings(true)
        .opt_level_str("s")
        .debug(false)
        .try_get_compiler()?
        .to_command()
        .args(["-shared", "-nostdlib", "-s", "-fno-stack-protector"])
        .args(["-Wl,-z,noseparate-code", "-Wl,-z,relro", "-Wl,-z,now", "-o"])
        .arg(out)
        .args(SOURCES)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the C compiler has failed: {status}").into())
    }
}
