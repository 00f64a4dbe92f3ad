//! The value of a session and its file format. Pure: no I/O, no shell.
//!
//! A file has a header line (the length of each part and a checksum), the parts and an
//! end mark. An incomplete file has no value.

use super::text::quote;

/// The start of the header.
const MAGIC: &str = "hutch-session-1";
/// The last bytes of a complete file.
const END: &[u8] = b"hutch-session-end\n";

/// The family of shells that a value is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// bash: the complete shell state.
    Bash,
    /// Any other `sh`: directory and exported variables.
    Posix,
}

/// The state of a session between two commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    pub kind: Kind,
    pub cwd: Vec<u8>,
    /// Variables, as shell commands.
    pub variables: Vec<u8>,
    /// bash: aliases, traps, options and functions, as commands.
    pub rest: Vec<u8>,
    /// bash: the options that print commands, such as ` -x`; set last.
    pub trace: Vec<u8>,
}

impl Value {
    /// The value of a new session.
    pub fn new(kind: Kind, cwd: Vec<u8>) -> Self {
        Self {
            kind,
            cwd,
            variables: Vec::new(),
            rest: Vec::new(),
            trace: Vec::new(),
        }
    }

    /// Converts the value for shells of `kind`; parts that they would not understand
    /// are dropped. Commands of plain `sh` are valid for every shell.
    pub fn suited(mut self, kind: Kind) -> Self {
        if self.kind != kind {
            if kind == Kind::Posix {
                self = Self::new(kind, self.cwd);
            }
            self.kind = kind;
        }
        self
    }

    /// Adds exported variables; their names must be valid in POSIX.
    pub fn export<'a>(&mut self, variables: impl IntoIterator<Item = (&'a String, &'a String)>) {
        for (name, value) in variables {
            let line = [b"export ", name.as_bytes(), b"="].concat();
            self.variables.extend(line);
            self.variables.extend(quote(value.as_bytes()));
            self.variables.push(b'\n');
        }
    }

    fn parts(&self) -> [&Vec<u8>; 4] {
        [&self.cwd, &self.variables, &self.rest, &self.trace]
    }

    /// Encodes the value and the session's id for the disk.
    pub fn encode(&self, id: &str) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Bash => "bash",
            Kind::Posix => "sh",
        };
        let [cwd, variables, rest, trace] = self.parts();
        let body = [id.as_bytes(), cwd, variables, rest, trace].concat();
        let header = format!(
            "{MAGIC} {kind} {} {} {} {} {} {:016x}\n",
            id.len(),
            cwd.len(),
            variables.len(),
            rest.len(),
            trace.len(),
            checksum(&body)
        );
        [header.as_bytes(), &body, END].concat()
    }

    /// Decodes a file into the session's id and value; `None` if it is incomplete.
    pub fn decode(bytes: &[u8]) -> Option<(String, Self)> {
        let line = bytes.iter().take(256).position(|byte| *byte == b'\n')?;
        let mut fields = std::str::from_utf8(&bytes[..line]).ok()?.split(' ');
        if fields.next()? != MAGIC {
            return None;
        }
        let kind = match fields.next()? {
            "bash" => Kind::Bash,
            "sh" => Kind::Posix,
            _ => return None,
        };
        let mut lengths = [0; 5];
        for length in &mut lengths {
            *length = fields.next()?.parse().ok()?;
        }
        let sum = u64::from_str_radix(fields.next()?, 16).ok()?;
        let body = bytes[line + 1..].strip_suffix(END)?;
        if checksum(body) != sum {
            return None;
        }
        let mut left = body;
        let mut parts = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (part, more) = left.split_at_checked(length)?;
            parts.push(part.to_vec());
            left = more;
        }
        let [id, cwd, variables, rest, trace] = parts.try_into().ok()?;
        let value = Self {
            kind,
            cwd,
            variables,
            rest,
            trace,
        };
        left.is_empty()
            .then_some(String::from_utf8(id).ok()?)
            .map(|id| (id, value))
    }
}

/// FNV-1a: detects corruption, not manipulation.
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_as_it_was() {
        let mut value = Value::new(Kind::Bash, b"/a\nb\xff".to_vec());
        value.export([(&"A".to_string(), &"it's\n".to_string())]);
        value.rest = b"f () { :; }\n".to_vec();
        let bytes = value.encode("ü/../\n");
        assert_eq!(Value::decode(&bytes), Some(("ü/../\n".into(), value)));
    }

    #[test]
    fn an_incomplete_value_is_refused() {
        let bytes = Value::new(Kind::Posix, b"/workspace".to_vec()).encode("a");
        for end in 0..bytes.len() {
            assert_eq!(Value::decode(&bytes[..end]), None);
        }
        for place in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[place] ^= 1;
            assert_ne!(Value::decode(&bent), Value::decode(&bytes), "byte {place}");
        }
    }
}
