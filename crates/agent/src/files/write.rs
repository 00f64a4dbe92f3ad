//! `WriteFile`: writes the client's bytes into a draft and then completes it.
//!
//! Input is collected into larger pieces; a file that fits in one piece is written in
//! one job. At most one piece per call is in memory.

use std::sync::Arc;

use bytes::Bytes;
use hutch_wire::limits::CHUNK;
use hutch_wire::v1::write_input::Input;
use hutch_wire::v1::{WriteInput, WriteReply, WriteStart};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::draft::Draft;
use super::error::FileError;
use super::place::Home;
use super::request::Wanted;
use super::service::CLIENT_STALL_TIMEOUT;
use super::worker::{DropOnWorker, work};

/// Bytes collected before they are written.
const WRITE_BUFFER_BYTES: usize = 4 * CHUNK;

/// Writes a file from the input stream.
///
/// # Errors
/// As in the protocol; then nothing has changed.
pub async fn write(
    home: &Arc<Home>,
    mut inputs: Streaming<WriteInput>,
) -> Result<WriteReply, Status> {
    let Some(Input::Start(start)) = next(&mut inputs, "write").await? else {
        return Err(Status::invalid_argument("the first input is not start"));
    };
    let WriteStart { path, durable } = start;
    let wanted = Wanted::check(path, "the path")?;
    let what = format!("write {}", wanted.shown());
    let mut upload = Upload {
        home: Arc::clone(home),
        wanted,
        draft: DropOnWorker::new(None),
        gathered: Vec::new(),
    };
    loop {
        match next(&mut inputs, &what).await? {
            Some(Input::Data(bytes)) => upload.add(bytes).await,
            Some(Input::End(_)) => break,
            Some(Input::Start(_)) => {
                return Err(Status::invalid_argument("a second start"));
            }
            None => {
                return Err(Status::aborted(format!(
                    "cannot {what}: it broke off before its end"
                )));
            }
        }
        .map_err(|trouble| trouble.status(&what))?;
    }
    let (size, created) = upload
        .end(durable)
        .await
        .map_err(|trouble| trouble.status(&what))?;
    Ok(WriteReply { size, created })
}

async fn next(inputs: &mut Streaming<WriteInput>, what: &str) -> Result<Option<Input>, Status> {
    match timeout(CLIENT_STALL_TIMEOUT, inputs.message()).await {
        Ok(Ok(Some(message))) => message
            .input
            .map(Some)
            .ok_or_else(|| Status::invalid_argument("an input without content")),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(FileError::Stalled.status(what)),
    }
}

/// The state of one `WriteFile` call.
struct Upload {
    home: Arc<Home>,
    wanted: Wanted,
    /// `None` until the first piece.
    draft: DropOnWorker<Option<Draft>>,
    gathered: Vec<u8>,
}

impl Upload {
    async fn add(&mut self, bytes: Bytes) -> Result<(), FileError> {
        self.gathered.extend_from_slice(&bytes);
        if self.gathered.len() < WRITE_BUFFER_BYTES {
            return Ok(());
        }
        let (draft, home, wanted) = (self.take(), Arc::clone(&self.home), self.wanted.clone());
        let piece = std::mem::take(&mut self.gathered);
        let (draft, mut piece) = work(move || {
            let draft = extended(draft, &home, &wanted, &piece)?;
            Ok((DropOnWorker::new(Some(draft)), piece))
        })
        .await?;
        self.draft = draft;
        piece.clear();
        self.gathered = piece;
        Ok(())
    }

    async fn end(mut self, durable: bool) -> Result<(u64, bool), FileError> {
        let draft = self.take();
        let Self {
            home,
            wanted,
            gathered,
            ..
        } = self;
        work(move || extended(draft, &home, &wanted, &gathered)?.commit(durable)).await
    }

    fn take(&mut self) -> Option<Draft> {
        self.draft.get().and_then(Option::take)
    }
}

fn extended(
    draft: Option<Draft>,
    home: &Home,
    wanted: &Wanted,
    bytes: &[u8],
) -> Result<Draft, FileError> {
    let mut draft = match draft {
        Some(draft) => draft,
        None => Draft::begin(home.follow(wanted)?, None)?,
    };
    draft.write(bytes)?;
    Ok(draft)
}
