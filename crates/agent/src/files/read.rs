//! `ReadFile`: a regular file's bytes to the client, at the client's pace.
//!
//! At most two chunks per call are in memory. The file is looked at before it
//! is opened, as opening a device can do things, and again through the open
//! descriptor, as it may have been swapped.

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

use super::place::{Home, kind, open, refuse_proc};
use super::request::Wanted;
use super::service::PATIENCE;
use super::trouble::Trouble;
use super::worker::{Away, work};

const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// What `ReadFile` answers with.
pub type Outputs = ReceiverStream<Result<ReadOutput, Status>>;

/// An open file, and how much of it may be read.
#[derive(Debug)]
pub struct Reader {
    file: OwnedFd,
    size: u64,
    mode: u32,
    read: u64,
    limit: u64,
}

/// Opens a file and begins to send it. `permit` is held until all is sent.
///
/// # Errors
/// As the protocol says.
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
        Ok((Away::new(reader), bytes))
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
            // To one who does not read, the missing end says as much.
            let told = sender.send(Err(trouble.status(&what)));
            let _ = tokio::time::timeout(PATIENCE, told).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

type Sender = mpsc::Sender<Result<ReadOutput, Status>>;

async fn send(
    sender: &Sender,
    start: ReadStart,
    mut reader: Away<Reader>,
    mut bytes: Bytes,
) -> Result<(), Trouble> {
    give(sender, Output::Start(start)).await?;
    // Only the end of the file comes as less than a chunk.
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
            Ok((Away::new(open), bytes))
        })
        .await?;
    }
    give(sender, Output::End(ReadEnd {})).await
}

async fn give(sender: &Sender, output: Output) -> Result<(), Trouble> {
    let message = ReadOutput {
        output: Some(output),
    };
    match tokio::time::timeout(PATIENCE, sender.send(Ok(message))).await {
        // Whether it was taken or the client has left makes no difference here.
        Ok(_) => Ok(()),
        Err(_) => Err(Trouble::Stalled),
    }
}

/// Opens a regular file for reading.
///
/// # Errors
/// When it is something else, or not the user's.
pub fn open_regular(place: &super::place::Place) -> Result<(OwnedFd, Stat), Trouble> {
    regular(&place.look()?.ok_or(Errno::NOENT)?)?;
    let file = open(&place.folder, &place.name, FILE)?;
    let stat = fstat(&file)?;
    regular(&stat)?;
    refuse_proc(&file)?;
    Ok((file, stat))
}

fn regular(stat: &Stat) -> Result<(), Trouble> {
    match kind(stat) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Trouble::Folder),
        // Of a link that was swapped in, the kernel says the same.
        FileType::Symlink => Err(Errno::LOOP.into()),
        _ => Err(Trouble::Special),
    }
}

/// Fills `buffer` unless the file ends before.
///
/// # Errors
/// What the kernel says.
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
    fn open(home: &Home, wanted: &Wanted, limit: u64) -> Result<Self, Trouble> {
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

    fn check(&self, size: u64) -> Result<(), Trouble> {
        if size > self.limit {
            return Err(Trouble::TooLarge(size, self.limit));
        }
        Ok(())
    }

    /// The next chunk; shorter at the end of the file, and then empty.
    fn next(&mut self) -> Result<Bytes, Trouble> {
        let left = self.size.saturating_sub(self.read);
        // One more byte than is left, to see the end in the same job.
        let room = usize::try_from(left).map_or(CHUNK, |left| left.saturating_add(1).min(CHUNK));
        let mut buffer = vec![0; room];
        let mut filled = fill(&self.file, &mut buffer)?;
        if filled == room && room < CHUNK {
            // It has grown, or it is one of those that tell no size.
            buffer.resize(CHUNK, 0);
            filled += fill(&self.file, &mut buffer[filled..])?;
        }
        buffer.truncate(filled);
        self.read += filled as u64;
        self.check(self.read)?;
        Ok(buffer.into())
    }
}
