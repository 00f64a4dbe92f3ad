//! Edits a file: replaces a text in it by another.

use bytes::Bytes;
use thiserror::Error;

use super::{ClientPath, Work};
use crate::ServiceError;
use crate::target::Target;
use hutch_core::agent::AgentError;

/// The occurrences of a text that an edit replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrences {
    /// The first one.
    First,
    /// All of them.
    All,
}

/// Why a file was not edited. The file is unchanged, unless a write was
/// [`Lost`](AgentError::Lost).
#[derive(Debug, Error)]
pub enum EditError {
    /// The file does not contain the text to replace. The value is its path.
    #[error("old_string was not found in {0}: the file is unchanged")]
    NotFound(String),
    /// The file is larger than [`max_file`](super::Limits::max_file).
    #[error("{0}")]
    TooLarge(String),
    /// The file could not be read or written.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl Work {
    /// Replaces `old` in a file by `new`. If `old` is empty, `new` becomes the whole content. A file that does not
    /// exist counts as empty. Edits in one sandbox run one after another in this
    /// process, so that none overwrites another.
    ///
    /// # Errors
    /// See [`EditError`].
    pub async fn edit_file(
        &self,
        target: &Target,
        path: ClientPath<'_>,
        (old, new): (&str, &str),
        which: Occurrences,
    ) -> Result<(), EditError> {
        // The lock is per sandbox, not per path: one file can have several paths.
        let _edit = self.edits.lock(target.name.clone()).await;
        let content = if old.is_empty() {
            new.as_bytes().to_vec()
        } else {
            let before = match self.read_file(target, path).await {
                Err(ServiceError::Agent(AgentError::NotFound(_))) => Bytes::new(),
                Err(ServiceError::Agent(AgentError::Full(why))) => {
                    return Err(EditError::TooLarge(why));
                }
                read => read?,
            };
            let edited = replace(&before, old.as_bytes(), new.as_bytes(), which);
            edited.ok_or_else(|| EditError::NotFound(path.path.to_owned()))?
        };
        Ok(self.write_file(target, path, &content.into()).await?)
    }
}

/// Replaces `old`, which must not be empty. `None` if `text` does not contain it.
fn replace(text: &[u8], old: &[u8], new: &[u8], which: Occurrences) -> Option<Vec<u8>> {
    let mut edited = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut found = false;
    let all = which == Occurrences::All;
    while let Some(place) = find(rest, old).filter(|_| all || !found) {
        found = true;
        edited.extend_from_slice(&rest[..place]);
        edited.extend_from_slice(new);
        rest = &rest[place + old.len()..];
    }
    edited.extend_from_slice(rest);
    found.then_some(edited)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

#[cfg(test)]
mod tests {
    use super::Occurrences::{All, First};
    use super::*;

    fn edited(text: &str, old: &str, new: &str, which: Occurrences) -> Option<String> {
        let edited = replace(text.as_bytes(), old.as_bytes(), new.as_bytes(), which);
        edited.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_first_or_every_occurrence_is_replaced_and_new_text_is_not_searched() {
        assert_eq!(edited("aXbX", "X", "XX", First).as_deref(), Some("aXXbX"));
        assert_eq!(edited("aXbX", "X", "XX", All).as_deref(), Some("aXXbXX"));
        assert_eq!(edited("aaa", "aa", "b", All).as_deref(), Some("ba"));
        assert_eq!(edited("ü\n", "\n", "", All).as_deref(), Some("ü"));
        assert_eq!(edited("abc", "X", "", All), None);
        assert_eq!(edited("", "X", "", First), None);
    }
}
