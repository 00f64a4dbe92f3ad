//! Search calls. The facade enforces the limits of a request itself: it truncates or
//! rejects an answer that exceeds them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use hutch_wire::v1;
use hutch_wire::v1::search_output::Output;
use hutch_wire::v1::tree_output::Output as TreeOutput;
use tokio::time::{Instant, timeout_at};
use tonic::{Response, Status, Streaming};

use super::call::{answer, append_within};
use super::files::wire_path;
use super::pool::Pool;
use hutch_core::agent::AgentError;
use hutch_core::files::FilePath;
use hutch_core::interfaces::{PodRef, Search};
use hutch_core::search::{
    MAX_PATTERN_BYTES, SearchLimits, SearchOutput, TIMED_OUT, Tree, TreeEntry, TreeKind, TreeLimits,
};

/// Time for the way to the agent and back, beyond the search's own time limit.
const ROUND_TRIP_ALLOWANCE: Duration = Duration::from_secs(5);
/// The longest file name that Linux allows (`NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;

const _: () = assert!(MAX_PATTERN_BYTES == hutch_wire::limits::MAX_PATTERN);

type Answer<T> = Result<Response<Streaming<T>>, Status>;

/// The next message; `None` if the time is over.
async fn next<T>(messages: &mut Streaming<T>, end: Instant) -> Option<Result<Option<T>, Status>> {
    timeout_at(end, messages.message()).await.ok()
}

fn broken(why: &str) -> Status {
    Status::unknown(format!("the agent's answer makes no sense: {why}"))
}

/// Collects the output of a search, within `limits`.
async fn collect_output(
    call: impl Future<Output = Answer<v1::SearchOutput>>,
    limits: SearchLimits,
) -> Result<SearchOutput, Status> {
    let end = Instant::now() + limits.time;
    let (mut stdout, mut stderr) = (BytesMut::new(), BytesMut::new());
    let mut complete = true;
    let timed_out = v1::SearchEnd {
        exit_code: TIMED_OUT,
        truncated: true,
    };
    let end_message = match timeout_at(end, call).await {
        Err(_) => timed_out,
        Ok(messages) => {
            let mut messages = messages?.into_inner();
            loop {
                let Some(message) = next(&mut messages, end).await else {
                    break timed_out;
                };
                match message?.and_then(|message| message.output) {
                    Some(Output::Stdout(data)) => {
                        complete &= append_within(&mut stdout, &data, limits.output);
                    }
                    Some(Output::Stderr(data)) => {
                        complete &= append_within(&mut stderr, &data, limits.output);
                    }
                    Some(Output::End(end_message)) => break end_message,
                    None => return Err(broken("it has no end")),
                }
            }
        }
    };
    Ok(SearchOutput {
        stdout: stdout.freeze(),
        stderr: stderr.freeze(),
        exit_code: end_message.exit_code,
        truncated: end_message.truncated || !complete,
    })
}

/// Builds a tree from the messages of an agent and checks each of them.
struct TreeBuilder {
    tree: Tree,
    /// The last entry's content so far.
    content: Vec<u8>,
    /// True if the last entry may have content.
    expects_content: bool,
    /// Bytes of all contents so far.
    contents: u64,
    limits: TreeLimits,
}

impl TreeBuilder {
    fn add_entry(&mut self, entry: v1::TreeEntry) -> Result<(), Status> {
        self.finish_entry()?;
        let entries = &mut self.tree.entries;
        let deepest = entries.last().map_or(0, |last| match last.kind {
            TreeKind::Directory => last.depth.saturating_add(1),
            _ => last.depth,
        });
        let root = entries.is_empty();
        let named = if root {
            entry.name.is_empty()
        } else {
            let name = &entry.name;
            !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(&b'/')
        };
        if root != (entry.depth == 0) || entry.depth > deepest || !named {
            return Err(broken("an entry has no place in the tree"));
        }
        let kind = match entry.kind() {
            v1::Kind::File => TreeKind::File,
            v1::Kind::Folder => TreeKind::Directory,
            v1::Kind::Link => TreeKind::Link,
            v1::Kind::Special | v1::Kind::Missing => TreeKind::Special,
        };
        if entries.len() as u64 >= self.limits.entries {
            return Err(broken("it has too many entries"));
        }
        self.expects_content = entry.text;
        entries.push(TreeEntry {
            depth: entry.depth,
            // A slice would keep the whole message in memory.
            name: Bytes::copy_from_slice(&entry.name),
            kind,
            content: None,
        });
        Ok(())
    }

    fn add_content(&mut self, data: &[u8]) -> Result<(), Status> {
        self.contents += data.len() as u64;
        let size = (self.content.len() + data.len()) as u64;
        if !self.expects_content
            || size >= self.limits.content
            || self.contents > self.limits.contents
        {
            return Err(broken("contents are over their limit"));
        }
        self.content.extend_from_slice(data);
        Ok(())
    }

    /// Stores the content of the last entry, which is complete now.
    fn finish_entry(&mut self) -> Result<(), Status> {
        if !std::mem::take(&mut self.expects_content) {
            return Ok(());
        }
        let text = String::from_utf8(std::mem::take(&mut self.content))
            .map_err(|_| broken("a text is none"))?;
        if let Some(last) = self.tree.entries.last_mut() {
            last.content = Some(text);
        }
        Ok(())
    }
}

/// Collects the tree that an agent sends, within `limits`.
async fn collect_tree(
    call: impl Future<Output = Answer<v1::TreeOutput>>,
    limits: TreeLimits,
) -> Result<Tree, Status> {
    let end = Instant::now() + limits.time;
    let mut builder = TreeBuilder {
        tree: Tree::default(),
        content: Vec::new(),
        expects_content: false,
        contents: 0,
        limits,
    };
    let late = || Status::deadline_exceeded("the agent has not begun in time");
    let mut messages = timeout_at(end, call)
        .await
        .map_err(|_| late())??
        .into_inner();
    loop {
        let Some(message) = next(&mut messages, end).await else {
            builder.tree.truncated = true;
            break;
        };
        match message?.and_then(|message| message.output) {
            Some(TreeOutput::Entry(entry)) => builder.add_entry(entry)?,
            Some(TreeOutput::Content(data)) => builder.add_content(&data)?,
            Some(TreeOutput::End(end)) => {
                builder.finish_entry()?;
                builder.tree.truncated = end.truncated;
                break;
            }
            None => return Err(broken("it has no end")),
        }
    }
    if builder.tree.entries.is_empty() {
        return Err(late());
    }
    Ok(builder.tree)
}

impl Search for Pool {
    fn grep<'a>(
        &'a self,
        pod: &'a PodRef,
        pattern: &'a str,
        path: &'a FilePath,
        limits: SearchLimits,
    ) -> BoxFuture<'a, Result<SearchOutput, AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::GrepRequest {
                pattern: pattern.to_owned(),
                path: wire_path(path),
                // For an agent, 0 means no limit.
                limit: limits.output.max(1),
            };
            let mut search = agent.search();
            answer(
                limits.time + ROUND_TRIP_ALLOWANCE,
                collect_output(search.grep(request), limits),
            )
            .await
        }
        .boxed()
    }

    fn glob<'a>(
        &'a self,
        pod: &'a PodRef,
        name: &'a str,
        path: &'a FilePath,
        limits: SearchLimits,
    ) -> BoxFuture<'a, Result<SearchOutput, AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::FindRequest {
                name: name.to_owned(),
                path: wire_path(path),
                // For an agent, 0 means no limit.
                limit: limits.output.max(1),
            };
            let mut search = agent.search();
            answer(
                limits.time + ROUND_TRIP_ALLOWANCE,
                collect_output(search.find(request), limits),
            )
            .await
        }
        .boxed()
    }

    fn tree<'a>(
        &'a self,
        pod: &'a PodRef,
        path: &'a FilePath,
        limits: TreeLimits,
    ) -> BoxFuture<'a, Result<Tree, AgentError>> {
        async move {
            let (_open, agent) = self.agent(pod).await?;
            let request = v1::TreeRequest {
                path: wire_path(path),
                content_limit: limits.content.min(limits.contents),
                // For an agent, 0 means no limit.
                entry_limit: limits.entries.max(1),
                limit: limits.contents.max(1),
            };
            let mut search = agent.search();
            answer(
                limits.time + ROUND_TRIP_ALLOWANCE,
                collect_tree(search.tree(request), limits),
            )
            .await
        }
        .boxed()
    }
}
