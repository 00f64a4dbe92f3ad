//! `ReadFile`: streams a regular file at the client's pace.
//!
//! At most two chunks per call are in memory. The file's type is checked before the
//! open, because opening a device can have effects, and again on the open descriptor,
//! because the file may have been replaced in between.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use hutch_wire::limits::CHUNK;
use hutch_wire::v1::read_output::Output;
use hutch_wire::v1::{ReadEnd, ReadOutput, ReadRequest, ReadStart};
use rustix::fs::{FileType, OFlags, Stat, fstat};
use rustix::io::{Errno, read};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::FileError;
use super::place::{Home, kind, open, refuse_proc};
use super::request::Wanted;
use super::service::CLIENT_STALL_TIMEOUT;
use super::worker::{DropOnWorker, work};

const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// The response stream of `ReadFile`.
pub type Outputs = ReceiverStream<Result<ReadOutput, Status>>;

/// An open file and its read limit.
#[derive(Debug)]
pub struct Reader {
    file: OwnedFd,
    size: u64,
    mode: u32,
    read: u64,
    limit: u64,
}

/// Opens a file and starts to send it. `permit` is held until all is sent.
///
/// # Errors
/// As in the protocol.
pub async fn stream(
    home: &Arc<Home>,
    request: ReadRequest,
    permit: OwnedSemaphorePermit,
) -> Result<Outputs, Status> {
    let wanted = Wanted::check(request.path, "the path")?;
    let what = format!("read {}", wanted.shown());
    let home = Arc::clone(home);
    let begun = work(move || {
        let mut reader = Reader::open(&home, &wanted, request.limit)?;
        let bytes = reader.next()?;
        Ok((DropOnWorker::new(reader), bytes))
    });
    let (mut reader, bytes) = begun.await.map_err(|trouble| trouble.status(&what))?;
    let start = reader.get().map(|reader| ReadStart {
        size: reader.size,
        mode: reader.mode,
    });
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        if let Err(trouble) = send(&sender, start.unwrap_or_default(), reader, bytes).await {
            // If the client does not read, it sees that the end is missing.
            let told = sender.send(Err(trouble.status(&what)));
            let _ = tokio::time::timeout(CLIENT_STALL_TIMEOUT, told).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

type Sender = mpsc::Sender<Result<ReadOutput, Status>>;

async fn send(
    sender: &Sender,
    start: ReadStart,
    mut reader: DropOnWorker<Reader>,
    mut bytes: Bytes,
) -> Result<(), FileError> {
    give(sender, Output::Start(start)).await?;
    // A piece shorter than a chunk is the end of the file.
    while !bytes.is_empty() {
        let last = bytes.len() < CHUNK;
        give(sender, Output::Data(bytes)).await?;
        if last || sender.is_closed() {
            break;
        }
        let Some(mut open) = reader.take() else {
            break;
        };
        (reader, bytes) = work(move || {
            let bytes = open.next()?;
            Ok((DropOnWorker::new(open), bytes))
        })
        .await?;
    }
    give(sender, Output::End(ReadEnd {})).await
}

async fn give(sender: &Sender, output: Output) -> Result<(), FileError> {
    let message = ReadOutput {
        output: Some(output),
    };
    match tokio::time::timeout(CLIENT_STALL_TIMEOUT, sender.send(Ok(message))).await {
        // Ignored: the client may have received the message or left.
        Ok(_) => Ok(()),
        Err(_) => Err(FileError::Stalled),
    }
}

/// Opens a regular file for reading.
///
/// # Errors
/// If it is of another type or refused.
pub fn open_regular(place: &super::place::Place) -> Result<(OwnedFd, Stat), FileError> {
    regular(&place.look()?.ok_or(Errno::NOENT)?)?;
    let file = open(&place.directory, &place.name, FILE)?;
    let stat = fstat(&file)?;
    regular(&stat)?;
    refuse_proc(&file)?;
    Ok((file, stat))
}

fn regular(stat: &Stat) -> Result<(), FileError> {
    match kind(stat) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(FileError::Directory),
        // A link that replaced the file: the open would fail with the same error.
        FileType::Symlink => Err(Errno::LOOP.into()),
        _ => Err(FileError::Special),
    }
}

/// Fills `buffer`, or less at the end of the file.
///
/// # Errors
/// The kernel's error.
pub fn fill(file: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&file, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(filled)
}

impl Reader {
    fn open(home: &Home, wanted: &Wanted, limit: u64) -> Result<Self, FileError> {
        let (file, stat) = open_regular(&home.follow(wanted)?)?;
        let limit = if limit == 0 { u64::MAX } else { limit };
        let reader = Self {
            file,
            size: stat.st_size.unsigned_abs(),
            mode: stat.st_mode & 0o7777,
            read: 0,
            limit,
        };
        reader.check(reader.size)?;
        Ok(reader)
    }

    fn check(&self, size: u64) -> Result<(), FileError> {
        if size > self.limit {
            return Err(FileError::TooLarge(size, self.limit));
        }
        Ok(())
    }

    /// Reads the next chunk. The last one is shorter or empty.
    fn next(&mut self) -> Result<Bytes, FileError> {
        let left = self.size.saturating_sub(self.read);
        // Read one more byte than expected, to see the end in the same job.
        let room = usize::try_from(left).map_or(CHUNK, |left| left.saturating_add(1).min(CHUNK));
        let mut buffer = vec![0; room];
        let mut filled = fill(&self.file, &mut buffer)?;
        if filled == room && room < CHUNK {
            // The file has grown, or reports no size (as in sysfs).
            buffer.resize(CHUNK, 0);
            filled += fill(&self.file, &mut buffer[filled..])?;
        }
        buffer.truncate(filled);
        self.read += filled as u64;
        self.check(self.read)?;
        Ok(buffer.into())
    }
}
