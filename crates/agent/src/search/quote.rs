//! Paths and errors as GNU grep and find print them in a UTF-8 locale. Pure.

use rustix::io::Errno;

use crate::files::error::FileError;

/// The error text of strerror(3).
pub fn reason(trouble: &FileError) -> String {
    let errno = match trouble {
        FileError::Kernel(errno) => *errno,
        FileError::Directory => Errno::ISDIR,
        FileError::Special => return "is a device, pipe or socket".into(),
        _ => Errno::ACCESS,
    };
    let text = std::io::Error::from(errno).to_string();
    let end = text.rfind(" (os error").unwrap_or(text.len());
    text[..end].into()
}

/// A line of grep on stderr.
pub fn of_grep(path: &[u8], what: &str) -> Vec<u8> {
    [b"grep: ", path, b": ", what.as_bytes(), b"\n"].concat()
}

/// A line of find on stderr. The path is quoted and its control characters are escaped.
pub fn of_find(path: &[u8], trouble: &FileError) -> Vec<u8> {
    let mut line = String::from("find: ‘");
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => line.push_str("\\n"),
                '\t' => line.push_str("\\t"),
                '\r' => line.push_str("\\r"),
                '\x07' => line.push_str("\\a"),
                '\x08' => line.push_str("\\b"),
                '\x0b' => line.push_str("\\v"),
                '\x0c' => line.push_str("\\f"),
                '\\' | '’' => line.extend(['\\', c]),
                c if c.is_control() => octal(&mut line, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => line.push(c),
            }
        }
        octal(&mut line, chunk.invalid());
    }
    line.push_str("’: ");
    line.push_str(&reason(trouble));
    line.push('\n');
    line.into_bytes()
}

fn octal(line: &mut String, bytes: &[u8]) {
    use std::fmt::Write as _;
    for byte in bytes {
        let _ = write!(line, "\\{byte:03o}");
    }
}
