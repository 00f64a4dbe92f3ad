//! Hutch.
fn main() {}
