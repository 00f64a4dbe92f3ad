//! File calls. Contents travel in chunks under HTTP/2's flow control. An answer that
//! exceeds the requested limit is an error.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, stream};
use hutch_wire::limits::{CHUNK, MAX_PATH};
use hutch_wire::v1;
use hutch_wire::v1::read_output::Output;
use hutch_wire::v1::write_input::Input;
use tonic::Status;

use super::call::answer;
use super::pool::Pool;
use hutch_core::agent::AgentError;
use hutch_core::files::{FileKind, FilePath, MAX_PATH_BYTES};
use hutch_core::interfaces::{Files, PodRef};

/// Timeout of a call. It ends calls that hang in a file system of the sandbox.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);

const _: () = assert!(MAX_PATH_BYTES == MAX_PATH);

/// The most entries that a listed directory may have.
const MAX_DIRECTORY_ENTRIES: usize = 100_000;

/// The path as a message of the agent's protocol.
pub fn wire_path(path: &FilePath) -> Option<v1::Path> {
    Some(v1::Path {
        path: path.path.clone().into(),
        base: path.base.clone(),
    })
}

/// The messages that write a file.
fn write_messages(path: &FilePath, content: Bytes) -> impl Iterator<Item = v1::WriteInput> + use<> {
    let start = Input::Start(v1::WriteStart {
        path: wire_path(path),
        durable: false,
    });
    let chunks = (0..content.len().div_ceil(CHUNK)).map(move |i| {
        let end = content.len().min((i + 1) * CHUNK);
        Input::Data(content.slice(i * CHUNK..end))
    });
    let all = std::iter::once(start)
        .chain(chunks)
        .chain(std::iter::once(Input::End(v1::WriteEnd {})));
    all.map(|input| v1::WriteInput { input: Some(input) })
}

impl Files for Pool {
    fn read<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::ReadRequest {
                path: wire_path(path),
                limit,
            };
            let mut files = agent.files();
            answer(CALL_TIMEOUT, async {
                let mut outputs = files.read_file(request).await?.into_inner();
                let mut content = BytesMut::new();
                loop {
                    let Some(message) = outputs.message().await? else {
                        return Err(Status::internal("the file broke off"));
                    };
                    let data = match message.output {
                        Some(Output::Data(data)) => data,
                        Some(Output::End(_)) => return Ok(content.freeze()),
                        Some(Output::Start(_)) | None => continue,
                    };
                    // The file has grown since the agent checked its size.
                    if (content.len() + data.len()) as u64 > limit {
                        let text = format!("cannot read {}: it is over {limit} bytes", path.path);
                        return Err(Status::resource_exhausted(text));
                    }
                    content.extend_from_slice(&data);
                }
            })
            .await
        }
        .boxed()
    }

    fn write<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        content: Bytes,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let mut files = agent.files();
            answer(
                CALL_TIMEOUT,
                files.write_file(stream::iter(write_messages(path, content))),
            )
            .await
            .map(drop)
        }
        .boxed()
    }

    fn make_directory<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        recursive: bool,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::MakeFolderRequest {
                path: wire_path(path),
                recursive,
            };
            let mut files = agent.files();
            answer(CALL_TIMEOUT, files.make_folder(request))
                .await
                .map(drop)
        }
        .boxed()
    }

    fn rename<'a>(
        &'a self,
        pod: &'a PodRef,
        from: &'a FilePath,
        to: &'a FilePath,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::RenameRequest {
                from: wire_path(from),
                to: wire_path(to),
            };
            let mut files = agent.files();
            answer(CALL_TIMEOUT, files.rename(request)).await.map(drop)
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::DeleteRequest {
                path: wire_path(path),
            };
            let mut files = agent.files();
            answer(CALL_TIMEOUT, files.delete(request)).await.map(drop)
        }
        .boxed()
    }

    fn stat<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<FileKind, AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::StatRequest {
                path: wire_path(path),
            };
            let mut files = agent.files();
            let reply = answer(CALL_TIMEOUT, files.stat(request))
                .await?
                .into_inner();
            Ok(match reply.kind() {
                v1::Kind::Missing => FileKind::Missing,
                v1::Kind::File => FileKind::File,
                v1::Kind::Folder => FileKind::Directory,
                v1::Kind::Link | v1::Kind::Special => FileKind::Special,
            })
        }
        .boxed()
    }

    fn list_directory<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::ListRequest {
                path: wire_path(path),
            };
            let mut files = agent.files();
            answer(CALL_TIMEOUT, async {
                let mut outputs = files.list(request).await?.into_inner();
                let mut names = Vec::new();
                while let Some(output) = outputs.message().await? {
                    names.extend(output.entries.into_iter().map(|entry| entry.name));
                    if names.len() > MAX_DIRECTORY_ENTRIES {
                        let text = format!(
                            "{} has more than {MAX_DIRECTORY_ENTRIES} entries",
                            path.path
                        );
                        return Err(Status::resource_exhausted(text));
                    }
                }
                Ok(names)
            })
            .await
        }
        .boxed()
    }
}
