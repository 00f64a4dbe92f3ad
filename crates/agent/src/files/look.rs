//! `Stat` and `List`. Only directories are opened for reading.

use std::sync::Arc;

use hutch_wire::v1::{Entry, Kind, ListOutput, ListRequest, StatReply};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, fstat, statat};
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::FileError;
use super::place::{DIRECTORY_FLAGS, Home, kind, open, refuse_proc};
use super::request::Wanted;
use super::service::CLIENT_STALL_TIMEOUT;
use super::worker::{DropOnWorker, work};

/// Entries in one message; with the longest names they fill half a chunk.
const ENTRIES_PER_MESSAGE: usize = 128;

/// The response stream of `List`.
pub type Outputs = ReceiverStream<Result<ListOutput, Status>>;

/// Returns what is at a path.
///
/// # Errors
/// As in the protocol; a missing file is not an error.
pub fn stat(home: &Home, wanted: &Wanted) -> Result<StatReply, FileError> {
    let found = home
        .start(wanted)
        .and_then(|directory| open(directory, &wanted.path, OFlags::PATH))
        .and_then(fstat);
    let stat = match found {
        Ok(stat) => stat,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(StatReply::default()),
        Err(other) => return Err(other.into()),
    };
    let micros = i64::try_from(stat.st_mtime_nsec / 1000).unwrap_or(0);
    Ok(StatReply {
        kind: told(kind(&stat)).into(),
        size: stat.st_size.unsigned_abs(),
        mode: stat.st_mode & 0o7777,
        modified_us: stat
            .st_mtime
            .saturating_mul(1_000_000)
            .saturating_add(micros),
    })
}

/// The file type as the protocol has it.
pub const fn told(kind: FileType) -> Kind {
    match kind {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    }
}

/// Opens a directory and starts to send its entries. `permit` is held until all are
/// sent.
///
/// # Errors
/// As in the protocol.
pub async fn list(
    home: &Arc<Home>,
    request: ListRequest,
    permit: OwnedSemaphorePermit,
) -> Result<Outputs, Status> {
    let wanted = Wanted::check(request.path, "the path")?;
    let what = format!("list {}", wanted.shown());
    let home = Arc::clone(home);
    let begun = work(move || {
        let place = home.follow(&wanted)?;
        if !place.missing.is_empty() {
            return Err(Errno::NOENT.into());
        }
        let directory = open(&place.directory, &place.name, DIRECTORY_FLAGS)?;
        refuse_proc(&directory)?;
        some(Dir::new(directory)?)
    });
    let (mut directory, mut entries) = begun.await.map_err(|trouble| trouble.status(&what))?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        while !entries.is_empty() {
            let output = Ok(ListOutput { entries });
            match tokio::time::timeout(CLIENT_STALL_TIMEOUT, sender.send(output)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
            let Some(open) = directory.take() else { return };
            (directory, entries) = match work(move || some(open)).await {
                Ok(more) => more,
                Err(trouble) => {
                    let _ = sender.send(Err(trouble.status(&what))).await;
                    return;
                }
            };
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Reads the next entries; empty at the end.
fn some(mut directory: Dir) -> Result<(DropOnWorker<Dir>, Vec<Entry>), FileError> {
    let mut entries = Vec::new();
    while entries.len() < ENTRIES_PER_MESSAGE {
        let Some(entry) = directory.read() else { break };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => statat(directory.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| kind(&stat)),
            known => known,
        };
        entries.push(Entry {
            name: name.to_bytes().to_vec().into(),
            kind: told(kind).into(),
        });
    }
    Ok((DropOnWorker::new(directory), entries))
}
