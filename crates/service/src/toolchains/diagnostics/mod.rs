//! Diagnostics: the findings of the checkers that an image has, in its sources. A file
//! without a checker has no findings. If a checker fails or does not end, that is
//! reported as information, never as a finding in a file.

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
use self::paths::{below, is_same, normalize};
pub use parse::Finding;

use super::Toolchains;
use crate::{Place, ServiceError};
use hutch_core::exec::{ExecOutcome, ExecRequest, Program};
use hutch_core::search::{Tree, TreeKind};

/// The largest number of sources that are checked at once.
pub const MAX_FILES: usize = 50;
/// How long one checker may run.
const CHECKER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long all checkers of a request may run. Clients wait longer than that.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The number of checkers that run at the same time.
const MAX_CONCURRENT: usize = 2;
/// The bytes that are read of a checker's stdout, and as many of its stderr.
const MAX_OUTPUT: u64 = 1 << 20;
/// The largest number of findings of one run that are reported.
const MAX_FINDINGS: usize = 1000;
/// The characters that are reported of the output of a checker that failed.
const MAX_REMARK_CHARS: usize = 300;

/// The findings of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// By file, in the order and with the paths of the request.
    pub files: Vec<(String, Vec<Finding>)>,
    /// Findings in other files of the same project, its configuration included, and
    /// remarks about the checkers themselves.
    pub others: Vec<Finding>,
}

impl Toolchains {
    /// The findings in these files of a place. Files after the first [`MAX_FILES`] are
    /// not checked. Paths are absolute or start at the working directory.
    ///
    /// # Errors
    /// If no sandbox is ready in time.
    pub async fn diagnose(
        &self,
        place: &Place,
        files: &[String],
    ) -> Result<Diagnosis, ServiceError> {
        let files = &files[..files.len().min(MAX_FILES)];
        if let [file] = files
            && !self.runner.exists(place, file).await?
        {
            return Ok(Diagnosis {
                files: vec![(file.clone(), Vec::new())],
                ..Diagnosis::default()
            });
        }
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let runs = self.runs(place, files).await?;
        let runs = runs.into_iter().map(|run| self.check(place, run, deadline));
        let found: Vec<_> = stream::iter(runs).buffered(MAX_CONCURRENT).collect().await;
        let mut all: Vec<Finding> = Vec::new();
        let mut others = Vec::new();
        for found in found {
            let (findings, remark) = found?;
            // `go vet` checks a package twice: alone, and again with its tests.
            for finding in findings {
                if !all.contains(&finding) {
                    all.push(finding);
                }
            }
            others.extend(remark);
        }
        Ok(sorted(place, files, all, others))
    }

    /// The first [`MAX_FILES`] files of a place that have a checker, as paths relative
    /// to its working directory.
    ///
    /// # Errors
    /// If no sandbox is ready in time.
    pub async fn sources(&self, place: &Place) -> Result<Vec<String>, ServiceError> {
        Ok(sources(&self.runner.names(place).await?))
    }

    /// Runs a checker. Returns its findings, and a remark about the run if it failed.
    async fn check(
        &self,
        place: &Place,
        run: Run,
        deadline: Instant,
    ) -> Result<(Vec<Finding>, Option<Finding>), ServiceError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = CHECKER_TIMEOUT.min(left);
        if timeout.is_zero() {
            let remark = run.remark("not checked: the other checks took too long");
            return Ok((Vec::new(), Some(remark)));
        }
        let home = normalize(&place.workdir, "");
        let request = ExecRequest {
            program: Program::Argv(run.arguments()),
            cwd: match &run.directory {
                directory if *directory == home => place.cwd(),
                directory if directory.starts_with('/') => Some(directory.clone()),
                directory => Some(format!("./{directory}")),
            },
            timeout: Some(timeout),
            ..ExecRequest::script("", MAX_OUTPUT)
        };
        let outcome = self.runner.exec(place, request).await?;
        let stdout = String::from_utf8_lossy(&outcome.stdout);
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        if run.is_missing(outcome.exit_code, &stderr) {
            return Ok((Vec::new(), None));
        }
        let mut findings = run.findings(&stdout, &stderr);
        findings.truncate(MAX_FINDINGS);
        if run.checker == Checker::Go {
            self.bytes_to_characters(place, &mut findings).await;
        }
        let remark = failure(&outcome, timeout, findings.is_empty());
        findings.retain(|finding| run.is_for_clients(finding));
        Ok((findings, remark.map(|text| run.remark(&text))))
    }

    /// Converts columns from bytes of UTF-8 to characters of UTF-16, as the contract
    /// has them. If a file cannot be read, its columns stay.
    async fn bytes_to_characters(&self, place: &Place, findings: &mut [Finding]) {
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

/// The remark about a run that did not end in time, or failed without a finding.
fn failure(outcome: &ExecOutcome, timeout: Duration, no_findings: bool) -> Option<String> {
    if outcome.timed_out {
        let seconds = timeout.as_secs().max(1);
        return Some(format!("it did not end within {seconds} s"));
    }
    if outcome.exit_code == 0 || !no_findings {
        return None;
    }
    let output = [&outcome.stderr, &outcome.stdout].map(|it| String::from_utf8_lossy(it));
    let mut lines = output.iter().flat_map(|it| it.lines()).map(str::trim);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().take(MAX_REMARK_CHARS).collect();
    Some(format!("it ended with {}: {line}", outcome.exit_code))
}

/// Groups findings by the files of the request. The paths of the others become relative
/// to the working directory if they are below it.
fn sorted(
    place: &Place,
    files: &[String],
    mut all: Vec<Finding>,
    mut others: Vec<Finding>,
) -> Diagnosis {
    let home = normalize(&place.workdir, "");
    let of = |file: &String| {
        let wanted = normalize(&home, file);
        let mine = all.extract_if(.., |finding| is_same(&finding.path, &wanted));
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

/// The first [`MAX_FILES`] files of a tree that have a checker.
fn sources(tree: &Tree) -> Vec<String> {
    let mut directories: Vec<String> = Vec::new();
    let mut sources = Vec::new();
    for entry in &tree.entries {
        let depth = usize::try_from(entry.depth).unwrap_or(0);
        let Ok(name) = std::str::from_utf8(&entry.name) else {
            continue;
        };
        directories.truncate(depth.saturating_sub(1));
        match entry.kind {
            TreeKind::Directory if depth > 0 => directories.push(format!("{name}/")),
            TreeKind::File if Checker::of(name).is_some() => {
                sources.push(directories.concat() + name);
            }
            _ => {}
        }
    }
    sources.truncate(MAX_FILES);
    sources
}
