//! Limits that both ends must agree on, in bytes unless stated otherwise. `hutch-core` repeats
//! those that clients see; `hutch-link` checks at compile time that they are equal.

/// Most bytes of the script or arguments plus the environment of one start.
pub const MAX_START: usize = 16 << 20;

/// Largest message that either end accepts: a start and its framing.
pub const MAX_MESSAGE: usize = MAX_START + (1 << 20);

/// Most bytes of output or input in one message.
pub const CHUNK: usize = 64 << 10;

/// Unacknowledged output that the agent keeps for each stream of an execution.
pub const WINDOW: usize = 1 << 20;

/// A client acknowledges output at the latest after this many bytes.
pub const ACK_EVERY: u64 = (WINDOW / 4) as u64;

/// Largest payload of an HTTP/2 frame. With its head of 9 bytes it fills one frame of
/// the exec stream; each such frame has the same cost for every process on the way.
pub const FRAME: u32 = (32 << 10) - 9;

/// HTTP/2 flow-control window of one stream: large enough for full throughput over an
/// exec stream, where every process buffers some of it, and small enough that a bulk
/// transfer delays a short request by milliseconds only.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// HTTP/2 flow-control window of the connection.
pub const CONNECTION_WINDOW: u32 = 2 << 20;

/// Longest execution id.
pub const MAX_ID: usize = 64;

/// Longest session id.
pub const MAX_SESSION_ID: usize = 512;

/// Longest name of a session's owner.
pub const MAX_OWNER: usize = 512;

/// Most sessions of one sandbox.
pub const MAX_SESSIONS: usize = 1024;

/// Most commands of one session that wait for their turn.
pub const MAX_WAITING: usize = 64;

/// Largest value of a session: its variables, functions and the rest as text.
pub const MAX_SESSION_VALUE: usize = 1 << 20;

/// The session that always exists.
pub const DEFAULT_SESSION: &str = "default";

/// How long the agent keeps the result of an ended execution that no client has
/// fetched, in seconds.
pub const RESULT_KEPT_SECONDS: u64 = 60;

/// Longest path of a file, and of its base directory.
pub const MAX_PATH: usize = 4096;

/// Largest message of the `Files` service: a chunk, or paths, and their framing.
pub const MAX_FILE_MESSAGE: usize = CHUNK + 4 * MAX_PATH;

/// Longest pattern of a search.
pub const MAX_PATTERN: usize = 16 << 10;

/// Longest line that a search handles in one piece.
pub const MAX_LINE: usize = 1 << 20;

/// Largest file whose content a tree returns.
pub const MAX_CONTENT: u64 = 1 << 20;

/// Largest message of the `Search` service: a chunk, or a pattern and paths, and their
/// framing.
pub const MAX_SEARCH_MESSAGE: usize = CHUNK + MAX_PATTERN + 4 * MAX_PATH;
