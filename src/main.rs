//! Hutch.
use kube::CustomResourceExt;
fn main() {
    println!(
        "{}---\n{}",
        serde_yaml_ng::to_string(&hutch::crd::Sandbox::crd()).unwrap_or_default(),
        serde_yaml_ng::to_string(&hutch::crd::SandboxSession::crd()).unwrap_or_default()
    );
}
