//! Searches through the protocol.

mod bounds;
mod compare;
mod odd;
mod random;
mod scene;
mod tree;

use scene::Scene;

/// The lines, sorted: the order of a directory's entries is not specified.
fn sorted(bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.escape_ascii().to_string())
        .collect();
    lines.sort();
    lines
}
