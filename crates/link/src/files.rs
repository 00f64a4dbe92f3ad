//! The agents' files. Bytes come and go in chunks under HTTP/2's flow control;
//! what an agent sends is held to what was asked for.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, stream};
use hutch_wire::limits::CHUNK;
use hutch_wire::v1;
use hutch_wire::v1::read_output::Output;
use hutch_wire::v1::write_input::Input;
use tonic::Status;

use super::call::answer;
use super::pool::Pool;
use hutch_core::agent::AgentError;
use hutch_core::files::{FileKind, FilePath};
use hutch_core::interfaces::{Files, PodRef};

/// How long a call may take. A hung file system in the sandbox ends it.
const DEADLINE: Duration = Duration::from_secs(25);

/// Most entries of a folder that is listed.
const ENTRIES: usize = 100_000;

/// The path as agents take it.
pub fn wire(path: &FilePath) -> Option<v1::Path> {
    Some(v1::Path {
        path: path.path.clone().into(),
        base: path.base.clone(),
    })
}

/// The messages that write a file.
fn inputs(path: &FilePath, content: Bytes) -> impl Iterator<Item = v1::WriteInput> + use<> {
    let start = Input::Start(v1::WriteStart {
        path: wire(path),
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
                path: wire(path),
                limit,
            };
            let mut files = agent.files();
            answer(DEADLINE, async {
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
                    // It has grown while it was read.
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
                DEADLINE,
                files.write_file(stream::iter(inputs(path, content))),
            )
            .await
            .map(drop)
        }
        .boxed()
    }

    fn make_folder<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        recursive: bool,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::MakeFolderRequest {
                path: wire(path),
                recursive,
            };
            let mut files = agent.files();
            answer(DEADLINE, files.make_folder(request)).await.map(drop)
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
                from: wire(from),
                to: wire(to),
            };
            let mut files = agent.files();
            answer(DEADLINE, files.rename(request)).await.map(drop)
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
            let request = v1::DeleteRequest { path: wire(path) };
            let mut files = agent.files();
            answer(DEADLINE, files.delete(request)).await.map(drop)
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
            let request = v1::StatRequest { path: wire(path) };
            let mut files = agent.files();
            let reply = answer(DEADLINE, files.stat(request)).await?.into_inner();
            Ok(match reply.kind() {
                v1::Kind::Missing => FileKind::Missing,
                v1::Kind::File => FileKind::File,
                v1::Kind::Folder => FileKind::Folder,
                v1::Kind::Link | v1::Kind::Special => FileKind::Special,
            })
        }
        .boxed()
    }

    fn list_folder<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::ListRequest { path: wire(path) };
            let mut files = agent.files();
            answer(DEADLINE, async {
                let mut outputs = files.list(request).await?.into_inner();
                let mut names = Vec::new();
                while let Some(output) = outputs.message().await? {
                    names.extend(output.entries.into_iter().map(|entry| entry.name));
                    if names.len() > ENTRIES {
                        let text = format!("{} has more than {ENTRIES} entries", path.path);
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
