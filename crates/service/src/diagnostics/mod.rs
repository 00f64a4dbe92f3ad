//! Diagnostics: what the checkers that an image has say of its sources. A file
//! without a checker has no findings. A checker that fails, or does not end, is told
//! of as information, never as a finding in a file.

mod checker;
mod parse;
mod paths;
mod plan;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::time::Instant;

use self::checker::{Checker, Run};
use self::paths::{below, same, whole};
pub use parse::Finding;

use super::projects::Place;
use super::{Service, ServiceError};
use hutch_core::exec::{ExecRequest, Program};

/// Sources that are checked at once, at most.
pub const MOST_FILES: usize = 50;
/// How long one checker may run.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long all of them may: clients wait longer than that.
const TIME: Duration = Duration::from_secs(60);
/// Checkers at the same time.
const AT_ONCE: usize = 2;
/// Bytes of a checker's output that are read.
const OUTPUT: u64 = 1 << 20;
/// Findings of one run that are told.
const MOST_FINDINGS: usize = 1000;
/// Characters of what a checker that failed has said.
const WORDS: usize = 300;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// By file, as they were asked about.
    pub files: Vec<(String, Vec<Finding>)>,
    /// In other files of the same project, its configuration among them, and what is
    /// to be known of the checkers themselves.
    pub others: Vec<Finding>,
}

impl Service {
    /// What the checkers find in these files of a place; those past the bound are
    /// left out. Paths are absolute, or begin at the working directory.
    ///
    /// # Errors
    /// When no sandbox can be had in time.
    pub async fn diagnose(
        &self,
        place: &Place,
        files: &[String],
    ) -> Result<Diagnosis, ServiceError> {
        let files = &files[..files.len().min(MOST_FILES)];
        if let [file] = files
            && !self.path_exists(&place.target, place.path(file)).await?
        {
            let files = vec![(file.clone(), Vec::new())];
            return Ok(Diagnosis {
                files,
                ..Diagnosis::default()
            });
        }
        let deadline = Instant::now() + TIME;
        let runs = self.runs(place, files).await?;
        let runs = runs.into_iter().map(|run| self.check(place, run, deadline));
        let found: Vec<_> = stream::iter(runs).buffered(AT_ONCE).collect().await;
        let mut all: Vec<Finding> = Vec::new();
        let mut others = Vec::new();
        for found in found {
            let (findings, remark) = found?;
            // A package is checked again with its tests.
            for finding in findings {
                if !all.contains(&finding) {
                    all.push(finding);
                }
            }
            others.extend(remark);
        }
        Ok(sorted(place, files, all, others))
    }

    /// What one run finds, and what is to be known of the run.
    async fn check(
        &self,
        place: &Place,
        run: Run,
        deadline: Instant,
    ) -> Result<(Vec<Finding>, Option<Finding>), ServiceError> {
        let time = PATIENCE.min(deadline.saturating_duration_since(Instant::now()));
        if time.is_zero() {
            let remark = run.remark("not checked: the other checks took too long");
            return Ok((Vec::new(), Some(remark)));
        }
        let home = whole(&place.workdir, "");
        let request = ExecRequest {
            program: Program::Argv(run.arguments()),
            cwd: match &run.folder {
                folder if *folder == home => place.cwd(),
                folder if folder.starts_with('/') => Some(folder.clone()),
                folder => Some(format!("./{folder}")),
            },
            timeout: Some(time),
            ..ExecRequest::script("", OUTPUT)
        };
        let outcome = self.exec(&place.target, request).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&outcome.stdout), text(&outcome.stderr));
        if run.is_missing(outcome.exit_code, &stderr) {
            return Ok((Vec::new(), None));
        }
        let mut findings = run.findings(&stdout, &stderr);
        findings.truncate(MOST_FINDINGS);
        if run.checker == Checker::Go {
            self.in_characters(place, &mut findings).await;
        }
        let remark = if outcome.timed_out {
            Some(format!("it did not end within {} s", time.as_secs().max(1)))
        } else if outcome.exit_code != 0 && findings.is_empty() {
            let said = [&stderr, &stdout];
            let said = said.into_iter().flat_map(|it| it.lines());
            let line = said.map(str::trim).find(|line| !line.is_empty());
            let line: String = line.unwrap_or_default().chars().take(WORDS).collect();
            Some(format!("it ended with {}: {line}", outcome.exit_code))
        } else {
            None
        };
        findings.retain(|finding| run.tells(finding));
        Ok((findings, remark.map(|text| run.remark(&text))))
    }

    /// Columns that were told in bytes of UTF-8, as the contract has them: in
    /// characters of UTF-16. Where a file cannot be read they stay.
    async fn in_characters(&self, place: &Place, findings: &mut [Finding]) {
        let mut sources = BTreeMap::new();
        for finding in findings {
            if !sources.contains_key(&finding.path) {
                let source = self.text(place, &finding.path).await;
                sources.insert(finding.path.clone(), source.unwrap_or_default());
            }
            let lines = sources.get(&finding.path);
            let mut lines = lines
                .into_iter()
                .flat_map(|it| it.split(|byte| *byte == b'\n'));
            let number = usize::try_from(finding.line).unwrap_or(usize::MAX);
            if let Some(line) = lines.nth(number) {
                finding.count_characters(line);
            }
        }
    }
}

/// Findings by the files that were asked about; the others' paths begin at the
/// working directory where they are below it.
fn sorted(
    place: &Place,
    files: &[String],
    mut all: Vec<Finding>,
    mut others: Vec<Finding>,
) -> Diagnosis {
    let home = whole(&place.workdir, "");
    let of = |file: &String| {
        let wanted = whole(&home, file);
        let mine = all.extract_if(.., |finding| same(&finding.path, &wanted));
        (file.clone(), mine.collect())
    };
    let files = files.iter().map(of).collect();
    others.extend(all);
    for finding in &mut others {
        if let Some(rest) = below(&home, &finding.path) {
            finding.path = rest.to_owned();
        }
    }
    Diagnosis { files, others }
}

/// Whether a file of that name can be checked.
pub(super) fn is_source(name: &str) -> bool {
    Checker::of(name).is_some()
}
