//! A sandbox and the calls of the service `Files`.

use hutch_wire::limits::CHUNK;
use hutch_wire::v1::read_output::Output;
use hutch_wire::v1::write_input::Input;
use hutch_wire::v1::{
    DeleteRequest, Kind, ListRequest, MakeFolderRequest, Path, ReadRequest, ReadStart,
    RenameRequest, StatReply, StatRequest, WriteEnd, WriteInput, WriteReply, WriteStart,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::sandbox::{Client, Sandbox, put_agent};
use crate::wait::next_message;

/// A sandbox, a client, and the directory where relative paths start.
pub struct Scene {
    pub sandbox: Sandbox,
    pub client: Client,
    pub directory: tempfile::TempDir,
}

pub fn input(input: Input) -> WriteInput {
    WriteInput { input: Some(input) }
}

impl Scene {
    pub async fn new() -> Self {
        Self::of(Sandbox::new().await).await
    }

    /// In an image with nothing but the agent. Only absolute paths make sense there.
    pub async fn in_an_image(root: &std::path::Path) -> Self {
        put_agent(root);
        Self::of(Sandbox::without_an_image(root).await).await
    }

    /// The same with an agent that is an ordinary user.
    pub async fn of_a_user(root: &std::path::Path, user: u32) -> Self {
        put_agent(root);
        Self::of(Sandbox::of_a_user(root, user).await).await
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

    /// The path in the directory as the test process sees it.
    pub fn outside(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub fn path(&self, path: impl AsRef<[u8]>) -> Option<Path> {
        use std::os::unix::ffi::OsStrExt;
        Some(Path {
            path: path.as_ref().to_vec().into(),
            base: self.directory.path().as_os_str().as_bytes().to_vec().into(),
        })
    }

    fn start(&self, path: impl AsRef<[u8]>) -> WriteInput {
        let path = self.path(path);
        let durable = false;
        input(Input::Start(WriteStart { path, durable }))
    }

    pub async fn write(&self, path: impl AsRef<[u8]>, bytes: &[u8]) -> Result<WriteReply, Status> {
        let mut inputs = vec![self.start(path)];
        inputs.extend(
            bytes
                .chunks(CHUNK)
                .map(|piece| input(Input::Data(piece.to_vec().into()))),
        );
        inputs.push(input(Input::End(WriteEnd {})));
        let inputs = tokio_stream::iter(inputs);
        let mut files = self.client.files.clone();
        files
            .write_file(inputs)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Begins a write. Returns the sender of its inputs, and the call.
    pub fn writing(
        &self,
        path: impl AsRef<[u8]>,
    ) -> (
        mpsc::Sender<WriteInput>,
        tokio::task::JoinHandle<Result<WriteReply, Status>>,
    ) {
        let (sender, receiver) = mpsc::channel(16);
        sender.try_send(self.start(path)).unwrap();
        let mut files = self.client.files.clone();
        let call = tokio::spawn(async move {
            let reply = files.write_file(ReceiverStream::new(receiver)).await;
            reply.map(tonic::Response::into_inner)
        });
        (sender, call)
    }

    pub async fn read(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>, Status> {
        self.read_up_to(path, 0).await.map(|(_, bytes)| bytes)
    }

    pub async fn read_up_to(
        &self,
        path: impl AsRef<[u8]>,
        limit: u64,
    ) -> Result<(ReadStart, Vec<u8>), Status> {
        let path = self.path(path);
        let mut files = self.client.files.clone();
        let mut outputs = files
            .read_file(ReadRequest { path, limit })
            .await?
            .into_inner();
        let first = next_message(&mut outputs).await?.unwrap().output.unwrap();
        let Output::Start(start) = first else {
            panic!("{first:?} came first");
        };
        let mut bytes = Vec::new();
        loop {
            let message = next_message(&mut outputs).await?.expect("there is an end");
            match message.output.unwrap() {
                Output::Data(piece) => {
                    assert!(!piece.is_empty() && piece.len() <= CHUNK);
                    bytes.extend_from_slice(&piece);
                }
                Output::End(_) => return Ok((start, bytes)),
                Output::Start(_) => panic!("a second start"),
            }
        }
    }

    pub async fn make_directory(
        &self,
        path: impl AsRef<[u8]>,
        recursive: bool,
    ) -> Result<bool, Status> {
        let path = self.path(path);
        let mut files = self.client.files.clone();
        let reply = files
            .make_folder(MakeFolderRequest { path, recursive })
            .await?;
        Ok(reply.into_inner().created)
    }

    pub async fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<(), Status> {
        let (from, to) = (self.path(from), self.path(to));
        let mut files = self.client.files.clone();
        files.rename(RenameRequest { from, to }).await.map(drop)
    }

    pub async fn delete(&self, path: impl AsRef<[u8]>) -> Result<(), Status> {
        let path = self.path(path);
        let mut files = self.client.files.clone();
        files.delete(DeleteRequest { path }).await.map(drop)
    }

    pub async fn stat(&self, path: impl AsRef<[u8]>) -> Result<StatReply, Status> {
        let path = self.path(path);
        let mut files = self.client.files.clone();
        let reply = files.stat(StatRequest { path }).await?;
        Ok(reply.into_inner())
    }

    pub async fn kind(&self, path: impl AsRef<[u8]>) -> Kind {
        self.stat(path).await.unwrap().kind()
    }

    /// Returns names and kinds, sorted.
    pub async fn list(&self, path: impl AsRef<[u8]>) -> Result<Vec<(Vec<u8>, Kind)>, Status> {
        let path = self.path(path);
        let mut files = self.client.files.clone();
        let mut outputs = files.list(ListRequest { path }).await?.into_inner();
        let mut listed = Vec::new();
        while let Some(output) = next_message(&mut outputs).await? {
            listed.extend(
                output
                    .entries
                    .iter()
                    .map(|one| (one.name.to_vec(), one.kind())),
            );
        }
        listed.sort();
        Ok(listed)
    }

    /// Runs a script in the directory.
    pub async fn sh(&self, text: &str) -> String {
        self.client.sh_in(self.directory.path(), text).await
    }
}
