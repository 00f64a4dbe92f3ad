//! File errors, and their gRPC statuses with a text for users. Pure.

use rustix::io::Errno;
use tonic::{Code, Status};

/// The reason why a file operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileError {
    /// An error of the kernel.
    Kernel(Errno),
    /// A directory, but a file is needed.
    Directory,
    /// A device, pipe or socket, but a file is needed.
    Special,
    /// The file's size and the request's limit, in bytes.
    TooLarge(u64, u64),
    /// The new path of a rename is a directory.
    Taken,
    /// The path ends in `.` or `..`, so it has no name that could be changed.
    NoName,
    /// A directory cannot be moved to another file system.
    DirectoryAcross,
    /// It belongs to the agent.
    OfTheAgent,
    /// It is in `/proc`.
    OfTheKernel,
    /// The client neither read nor wrote for too long.
    Stalled,
    /// The agent is shutting down.
    ShuttingDown,
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

impl FileError {
    /// The status of a failed operation; `what` is a verb and a path.
    pub fn status(&self, what: &str) -> Status {
        let (code, why) = self.explain();
        Status::new(code, format!("cannot {what}: {why}"))
    }

    fn explain(&self) -> (Code, String) {
        use Code::{AlreadyExists, DeadlineExceeded, FailedPrecondition};
        let (code, why) = match self {
            Self::Kernel(errno) => return kernel(*errno),
            Self::TooLarge(size, limit) => {
                let why = format!("it has {size} bytes, and the limit is {limit}");
                return (Code::ResourceExhausted, why);
            }
            Self::Directory => (FailedPrecondition, "it is a directory"),
            Self::Special => (FailedPrecondition, "it is a device, pipe or socket"),
            Self::Taken => (
                AlreadyExists,
                "the new path is a directory; add a name to it",
            ),
            Self::NoName => (
                Code::InvalidArgument,
                "the path ends in . or .. or is the root, and so names nothing that could change",
            ),
            Self::DirectoryAcross => (
                FailedPrecondition,
                "a directory cannot be moved to another file system; copy it with a command",
            ),
            Self::OfTheAgent => (Code::PermissionDenied, "it belongs to the sandbox's agent"),
            Self::OfTheKernel => (
                Code::PermissionDenied,
                "it belongs to the kernel; use a command for what is in /proc",
            ),
            Self::Stalled => (DeadlineExceeded, "the client has not moved for a minute"),
            Self::ShuttingDown => (Code::Unavailable, "the sandbox ends"),
        };
        (code, why.into())
    }
}

fn kernel(errno: Errno) -> (Code, String) {
    use Code::{FailedPrecondition, InvalidArgument, PermissionDenied, ResourceExhausted};
    let (code, why) = match errno {
        Errno::NOENT => (Code::NotFound, "there is no such file or directory"),
        Errno::EXIST | Errno::NOTEMPTY => (Code::AlreadyExists, "something is there already"),
        Errno::ISDIR => (FailedPrecondition, "it is a directory"),
        Errno::NOTDIR => (FailedPrecondition, "a part of the path is not a directory"),
        Errno::NXIO | Errno::NODEV => (FailedPrecondition, "it is a device, pipe or socket"),
        Errno::LOOP => (
            FailedPrecondition,
            "its symbolic links run in a circle, or are of /proc",
        ),
        Errno::BUSY => (FailedPrecondition, "it is a mount point, or in use"),
        Errno::TXTBSY => (FailedPrecondition, "it is a program that runs"),
        Errno::NAMETOOLONG => (InvalidArgument, "a name in it is too long"),
        Errno::INVAL => (InvalidArgument, "the file system does not take it"),
        Errno::ILSEQ => (InvalidArgument, "the file system does not take such a name"),
        Errno::ACCESS | Errno::PERM => (PermissionDenied, "no permission"),
        Errno::ROFS => (PermissionDenied, "the file system is read-only"),
        Errno::NOSPC => (ResourceExhausted, "no space is left on the disk"),
        Errno::DQUOT => (ResourceExhausted, "the disk quota is used up"),
        Errno::FBIG => (
            ResourceExhausted,
            "it would be too large for the file system",
        ),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            (Code::Unavailable, "the sandbox has no memory or files left")
        }
        other => return (Code::Internal, format!("the file system fails: {other}")),
    };
    (code, why.into())
}
