//! Diagnostics: what the checkers that an image has say of its sources. A file
//! without a checker has no findings; a checker's own failure is none either.

mod parse;

use std::time::Duration;

use futures::StreamExt;
use futures::stream;

pub use parse::Finding;

use super::projects::Place;
use super::{Service, ServiceError};
use crate::domain::exec::{ExecRequest, Program};

/// Sources that are checked at once, at most.
pub const MOST_FILES: usize = 50;
/// How long one checker may run.
const PATIENCE: Duration = Duration::from_secs(20);
/// Checkers at the same time.
const AT_ONCE: usize = 2;
/// Bytes of a checker's output that are read.
const OUTPUT: u64 = 1 << 20;

const CHECK_PYTHON: &str = include_str!("check.py");

/// What can be checked, by a file's suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checker {
    Python,
    Go,
    TypeScript,
    JavaScript,
    Shell,
}

impl Checker {
    fn of(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1 {
            "py" | "pyi" => Some(Self::Python),
            "go" => Some(Self::Go),
            "ts" | "tsx" | "mts" | "cts" => Some(Self::TypeScript),
            "js" | "mjs" | "cjs" => Some(Self::JavaScript),
            "sh" | "bash" => Some(Self::Shell),
            _ => None,
        }
    }

    /// The checker's runs over `files`: some take many at once.
    fn runs(self, files: &[String]) -> Vec<Vec<String>> {
        match self {
            Self::Python | Self::TypeScript => vec![files.to_vec()],
            // Files of one package belong together.
            Self::Go => {
                let folder =
                    |file: &str| file.rsplit_once('/').map(|(folder, _)| folder.to_owned());
                let mut packages: Vec<(Option<String>, Vec<String>)> = Vec::new();
                for file in files {
                    let folder = folder(file);
                    match packages.iter_mut().find(|(other, _)| *other == folder) {
                        Some((_, package)) => package.push(file.clone()),
                        None => packages.push((folder, vec![file.clone()])),
                    }
                }
                packages.into_iter().map(|(_, package)| package).collect()
            }
            Self::JavaScript | Self::Shell => files.iter().map(|file| vec![file.clone()]).collect(),
        }
    }

    fn arguments(self, files: &[String]) -> Vec<String> {
        let head: &[&str] = match self {
            Self::Python => &["python3", "-c", CHECK_PYTHON],
            Self::Go => &["go", "vet"],
            Self::TypeScript => &["tsc", "--noEmit", "--pretty", "false"],
            Self::JavaScript => &["node", "--check"],
            Self::Shell => &["bash", "-n"],
        };
        let head = head.iter().map(|argument| (*argument).to_owned());
        head.chain(files.iter().cloned()).collect()
    }

    fn findings(self, files: &[String], stdout: &str, stderr: &str) -> Vec<Finding> {
        let first = files.first().map(String::as_str).unwrap_or_default();
        match self {
            Self::Python => parse::python(stdout),
            Self::Go => parse::go(stderr),
            Self::TypeScript => parse::typescript(stdout),
            Self::JavaScript => parse::javascript(first, stderr),
            Self::Shell => parse::shell(first, stderr),
        }
    }
}

impl Service {
    /// What the checkers find in these files of a place, with each file as it is
    /// given; those past the bound are left out. Paths are absolute, or begin at
    /// the working directory.
    ///
    /// # Errors
    /// When no sandbox can be had in time.
    pub async fn diagnose(
        &self,
        place: &Place,
        files: &[String],
    ) -> Result<Vec<(String, Vec<Finding>)>, ServiceError> {
        let files = &files[..files.len().min(MOST_FILES)];
        let mut runs = Vec::new();
        for checker in [
            Checker::Python,
            Checker::Go,
            Checker::TypeScript,
            Checker::JavaScript,
            Checker::Shell,
        ] {
            let mine = files
                .iter()
                .filter(|file| Checker::of(file) == Some(checker));
            // A leading dash would be an option.
            let mine = mine.map(|file| match file.starts_with('/') {
                true => file.clone(),
                false => format!("./{file}"),
            });
            let mine: Vec<_> = mine.collect();
            if !mine.is_empty() {
                runs.extend(
                    checker
                        .runs(&mine)
                        .into_iter()
                        .map(|files| (checker, files)),
                );
            }
        }
        let runs = runs
            .into_iter()
            .map(|(checker, files)| self.check(place, checker, files));
        let found: Vec<_> = stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
        let mut all = Vec::new();
        for findings in found {
            all.extend(findings?);
        }
        let of = |file: &String| {
            let same = |finding: &&Finding| same_file(&finding.path, file, &place.workdir);
            all.iter().filter(same).cloned().collect()
        };
        Ok(files.iter().map(|file| (file.clone(), of(file))).collect())
    }

    async fn check(
        &self,
        place: &Place,
        checker: Checker,
        files: Vec<String>,
    ) -> Result<Vec<Finding>, ServiceError> {
        let request = ExecRequest {
            program: Program::Argv(checker.arguments(&files)),
            cwd: place.cwd(),
            timeout: Some(PATIENCE),
            ..ExecRequest::script("", OUTPUT)
        };
        let outcome = self.exec(&place.target, request).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&outcome.stdout), text(&outcome.stderr));
        Ok(checker.findings(&files, &stdout, &stderr))
    }
}

/// Whether a file of that name can be checked.
pub(super) fn is_source(name: &str) -> bool {
    Checker::of(name).is_some()
}

/// Whether a checker's path means that file: checkers shorten what they are given.
fn same_file(told: &str, file: &str, workdir: &str) -> bool {
    let bare = |path: &str| {
        let path = path.strip_prefix(workdir).unwrap_or(path);
        let path = path.trim_start_matches('/');
        path.trim_start_matches("./").to_owned()
    };
    bare(told) == bare(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checker_is_given_what_it_takes_at_once() {
        let files = ["a.go", "x/b.go", "c.go"].map(str::to_owned);
        assert_eq!(
            Checker::Go.runs(&files),
            [vec!["a.go", "c.go"], vec!["x/b.go"]]
        );
        assert_eq!(Checker::Shell.runs(&files).len(), 3);
        assert_eq!(Checker::Python.runs(&files).len(), 1);
        assert_eq!(Checker::of("x.tar"), None);
        assert_eq!(Checker::of("py"), None);
    }

    #[test]
    fn a_file_is_known_by_its_shorter_names() {
        assert!(same_file("./a.go", "a.go", "/w"));
        assert!(same_file("a.go", "/w/a.go", "/w"));
        assert!(!same_file("b/a.go", "/w/a.go", "/w"));
    }
}
