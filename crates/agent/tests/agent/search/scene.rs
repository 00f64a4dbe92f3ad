//! A sandbox and the calls of the service `Search`, beside GNU grep and find.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use hutch_wire::limits::CHUNK;
use hutch_wire::v1::search_output::Output;
use hutch_wire::v1::tree_output::Output as TreeOutput;
use hutch_wire::v1::{FindRequest, GrepRequest, Kind, Path, SearchOutput, TreeRequest};
use tonic::{Status, Streaming};

use crate::sandbox::{Client, Sandbox};
use crate::wait::next_message;

/// A sandbox, a client, and the directory where relative paths start.
pub struct Scene {
    pub sandbox: Sandbox,
    pub client: Client,
    pub directory: tempfile::TempDir,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
    pub truncated: bool,
}

impl Answer {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

async fn collect(mut outputs: Streaming<SearchOutput>) -> Result<Answer, Status> {
    let mut answer = Answer::default();
    loop {
        match next_message(&mut outputs).await?.unwrap().output.unwrap() {
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
    assert!(
        next_message(&mut outputs).await?.is_none(),
        "the end is the last"
    );
    Ok(answer)
}

impl Scene {
    pub async fn new() -> Self {
        Self::of(Sandbox::new().await).await
    }

    pub async fn of(sandbox: Sandbox) -> Self {
        let client = sandbox.connect().await;
        let directory = tempfile::tempdir().unwrap();
        Self {
            sandbox,
            client,
            directory,
        }
    }

    pub fn path(&self, path: impl AsRef<[u8]>) -> Option<Path> {
        Some(Path {
            path: path.as_ref().to_vec().into(),
            base: self.directory.path().as_os_str().as_bytes().to_vec().into(),
        })
    }

    /// Writes a file and its parents.
    pub fn put(&self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) {
        let path = self.directory.path().join(OsStr::from_bytes(path.as_ref()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub async fn grep(&self, pattern: &str, path: impl AsRef<[u8]>) -> Answer {
        self.grep_up_to(pattern, path, 0).await.unwrap()
    }

    pub async fn grep_up_to(
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

    pub async fn find(&self, name: &str, path: impl AsRef<[u8]>) -> Answer {
        self.find_up_to(name, path, 0).await.unwrap()
    }

    pub async fn find_up_to(
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

    /// Returns the answer of a program of this machine, run in the directory.
    fn really(&self, program: &str, arguments: &[&[u8]]) -> Answer {
        let output = std::process::Command::new(program)
            .args(arguments.iter().map(|one| OsStr::from_bytes(one)))
            .current_dir(self.directory.path())
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

    pub fn real_grep(&self, pattern: &str, path: &[u8]) -> Answer {
        self.really("grep", &[b"-r", b"-e", pattern.as_bytes(), b"--", path])
    }

    pub fn real_find(&self, name: &str, path: &[u8]) -> Answer {
        self.really("find", &[path, b"-name", name.as_bytes()])
    }

    /// Runs a script in the directory.
    pub async fn sh(&self, text: &str) -> String {
        self.client.sh_in(self.directory.path(), text).await
    }

    /// Returns the entries as `DEPTH NAME=CONTENT`, and true if the tree was truncated.
    /// The name of a directory, a link or another special file is followed by `d`, `l` or
    /// `s`.
    pub async fn tree(
        &self,
        path: impl AsRef<[u8]>,
        content_limit: u64,
        limit: u64,
    ) -> Result<(Vec<String>, bool), Status> {
        self.tree_of(TreeRequest {
            path: self.path(path),
            content_limit,
            entry_limit: 0,
            limit,
        })
        .await
    }

    pub async fn tree_of(&self, request: TreeRequest) -> Result<(Vec<String>, bool), Status> {
        let mut search = self.client.search.clone();
        let mut outputs = search.tree(request).await?.into_inner();
        let mut entries: Vec<String> = Vec::new();
        let mut text = false;
        loop {
            match next_message(&mut outputs).await?.unwrap().output.unwrap() {
                TreeOutput::Entry(entry) => {
                    let kind = match entry.kind() {
                        Kind::File => "",
                        Kind::Folder => " d",
                        Kind::Link => " l",
                        Kind::Special | Kind::Missing => " s",
                    };
                    text = entry.text;
                    let space = if entry.depth == 0 { "" } else { " " };
                    let mark = if text { "=" } else { "" };
                    let name = entry.name.escape_ascii();
                    entries.push(format!("{}{space}{name}{kind}{mark}", entry.depth));
                }
                TreeOutput::Content(piece) => {
                    assert!(text && !piece.is_empty() && piece.len() <= CHUNK);
                    let last = entries.last_mut().unwrap();
                    last.push_str(std::str::from_utf8(&piece).unwrap());
                }
                TreeOutput::End(end) => {
                    assert!(next_message(&mut outputs).await?.is_none());
                    return Ok((entries, end.truncated));
                }
            }
        }
    }
}
