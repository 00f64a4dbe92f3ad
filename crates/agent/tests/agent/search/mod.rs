//! Searches through the protocol: what every test of them needs.

mod bounds;
mod compare;
mod numbers;
mod odd;
mod random;
mod tree;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use hutch_wire::limits::CHUNK;
use hutch_wire::v1::search_output::Output;
use hutch_wire::v1::{FindRequest, GrepRequest, Path, SearchOutput};
use tonic::{Status, Streaming};

use crate::sandbox::{Client, Sandbox};

/// A sandbox, a client, and a folder that relative paths begin at.
struct Scene {
    sandbox: Sandbox,
    client: Client,
    folder: tempfile::TempDir,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit_code: i32,
    truncated: bool,
}

impl Answer {
    fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

async fn collect(mut outputs: Streaming<SearchOutput>) -> Result<Answer, Status> {
    let mut answer = Answer::default();
    loop {
        match outputs.message().await?.unwrap().output.unwrap() {
            Output::Stdout(piece) => {
                assert!(!piece.is_empty() && piece.len() <= CHUNK);
                answer.stdout.extend_from_slice(&piece);
            }
            Output::Stderr(piece) => answer.stderr.extend_from_slice(&piece),
            Output::End(end) => {
                answer.exit_code = end.exit_code;
                answer.truncated = end.truncated;
                break;
            }
        }
    }
    assert!(outputs.message().await?.is_none(), "the end is the last");
    Ok(answer)
}

impl Scene {
    async fn new() -> Self {
        Self::of(Sandbox::new().await).await
    }

    async fn of(sandbox: Sandbox) -> Self {
        let client = sandbox.connect().await;
        let folder = tempfile::tempdir().unwrap();
        Self {
            sandbox,
            client,
            folder,
        }
    }

    fn path(&self, path: impl AsRef<[u8]>) -> Option<Path> {
        Some(Path {
            path: path.as_ref().to_vec().into(),
            base: self.folder.path().as_os_str().as_bytes().to_vec().into(),
        })
    }

    /// Writes a file and its parents.
    fn put(&self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) {
        let path = self.folder.path().join(OsStr::from_bytes(path.as_ref()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    async fn grep(&self, pattern: &str, path: impl AsRef<[u8]>) -> Answer {
        self.grep_up_to(pattern, path, 0).await.unwrap()
    }

    async fn grep_up_to(
        &self,
        pattern: &str,
        path: impl AsRef<[u8]>,
        limit: u64,
    ) -> Result<Answer, Status> {
        let request = GrepRequest {
            pattern: pattern.into(),
            path: self.path(path),
            limit,
        };
        let mut search = self.client.search.clone();
        collect(search.grep(request).await?.into_inner()).await
    }

    async fn find(&self, name: &str, path: impl AsRef<[u8]>) -> Answer {
        self.find_up_to(name, path, 0).await.unwrap()
    }

    async fn find_up_to(
        &self,
        name: &str,
        path: impl AsRef<[u8]>,
        limit: u64,
    ) -> Result<Answer, Status> {
        let request = FindRequest {
            name: name.into(),
            path: self.path(path),
            limit,
        };
        let mut search = self.client.search.clone();
        collect(search.find(request).await?.into_inner()).await
    }

    /// What a program of the machine answers in the folder.
    fn really(&self, program: &str, arguments: &[&[u8]]) -> Answer {
        let output = std::process::Command::new(program)
            .args(arguments.iter().map(|one| OsStr::from_bytes(one)))
            .current_dir(self.folder.path())
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        Answer {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.status.code().unwrap(),
            truncated: false,
        }
    }

    fn real_grep(&self, pattern: &str, path: &[u8]) -> Answer {
        self.really("grep", &[b"-r", b"-e", pattern.as_bytes(), b"--", path])
    }

    fn real_find(&self, name: &str, path: &[u8]) -> Answer {
        self.really("find", &[path, b"-name", name.as_bytes()])
    }

    /// Runs a script in the folder.
    async fn sh(&self, text: &str) -> String {
        self.client.sh_in(self.folder.path(), text).await
    }
}

/// Lines in an order of their own: that of folders is nobody's.
fn sorted(bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.escape_ascii().to_string())
        .collect();
    lines.sort();
    lines
}
