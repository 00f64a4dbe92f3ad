//! Compiles the protocol with a compiler in Rust, so that a build needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["proto/csi.proto", "proto/pluginregistration.proto"];
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .disable_comments(["."])
        // Requests contain secrets. Without `Debug` they cannot reach a log.
        .skip_debug(["."])
        .compile_fds(protox::compile(files, ["proto"])?)?;
    Ok(())
}
