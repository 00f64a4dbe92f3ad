//! Compiles the protocol in pure Rust, so that a build needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = [
        "proto/agent.proto",
        "proto/files.proto",
        "proto/search.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    let wants = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(wants("CLIENT"))
        .build_server(wants("SERVER"))
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
