//! Compiles the protocol in pure Rust, so that a build needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["proto/csi.proto", "proto/pluginregistration.proto"];
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .disable_comments(["."])
        // Requests carry secrets: what cannot be printed is in no log.
        .skip_debug(["."])
        .compile_fds(protox::compile(files, ["proto"])?)?;
    Ok(())
}
