//! Root directories for sandboxes in an image of their own.

use std::path::Path;
use std::process::Command;

use super::agent;

/// Puts the agent, and nothing else, into a root directory.
pub fn put_agent(root: &Path) {
    let copied = Command::new(agent()).arg("install").arg(root).status();
    assert!(copied.unwrap().success());
}

/// Copies the libraries that a program of this machine is linked with. A static program
/// has none.
pub fn copy_libraries(program: &Path, root: &Path) {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    for library in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
        if let Some(relative) = library.strip_prefix('/') {
            let target = root.join(relative);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(library, target).unwrap();
        }
    }
}
