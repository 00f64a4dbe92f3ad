//! Runs code in the languages that an image has interpreters for. The code is an
//! argument of its interpreter. If it is too long, or must be compiled first, it is
//! written to a file. Code never becomes part of a shell's command line.

use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::{Runner, Toolchains};
use crate::{Place, ServiceError};
use hutch_core::exec::{ExecOutcome, ExecRequest, Program};

/// The longest code that is passed as an argument. The kernel's limit is 128 KiB.
const MAX_INLINE_BYTES: usize = 100 << 10;
/// The timeout of code whose time has passed before it started.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// The program with which the agent runs scripts.
const SHELL: &str = "bash";

/// A language and the way to run its code.
struct Language {
    /// The names by which clients call it.
    names: &'static [&'static str],
    program: &'static str,
    /// The arguments before the code. If the last one ends with `=`, the code is
    /// appended to it. They keep the code from being read as an option. Empty: the code
    /// has to be in a file.
    inline: &'static [&'static str],
    /// For languages that are compiled: the arguments before the path of the program
    /// to build and the path of the file. Empty: no compilation.
    compile: &'static [&'static str],
    /// The suffix of a file, without the dot.
    suffix: &'static str,
}

static LANGUAGES: [Language; 8] = [
    // Runs as a script of the agent. The agent uses sh if the image has no bash.
    language(&["bash", "shell"], SHELL, &[], &[], ""),
    language(&["sh"], "sh", &["-c", "--"], &[], "sh"),
    language(&["python", "python3", "py"], "python3", &["-c"], &[], "py"),
    language(
        &["node", "javascript", "js"],
        "node",
        &["--eval="],
        &[],
        "js",
    ),
    language(&["ruby", "rb"], "ruby", &["-e"], &[], "rb"),
    language(&["perl", "pl"], "perl", &["-e"], &[], "pl"),
    language(&["php"], "php", &["-r"], &[], "php"),
    // `go run` cannot be used: it exits with 1 for every exit code of the program.
    language(
        &["go", "golang"],
        "go",
        &[],
        &["build", "-buildmode=exe", "-ldflags=-s -w", "-o"],
        "go",
    ),
];

const fn language(
    names: &'static [&'static str],
    program: &'static str,
    inline: &'static [&'static str],
    compile: &'static [&'static str],
    suffix: &'static str,
) -> Language {
    Language {
        names,
        program,
        inline,
        compile,
        suffix,
    }
}

impl Language {
    /// The command line with the code as an argument. `None` if the code has to be in a
    /// file.
    fn inline(&self, code: &str) -> Option<Program> {
        let (last, before) = self.inline.split_last()?;
        let mut argv = vec![self.program.to_owned()];
        argv.extend(before.iter().map(|argument| (*argument).to_owned()));
        if last.ends_with('=') {
            argv.push(format!("{last}{code}"));
        } else {
            argv.extend([(*last).to_owned(), code.to_owned()]);
        }
        (code.len() <= MAX_INLINE_BYTES).then_some(Program::Argv(argv))
    }
}

/// Why code was not run.
#[derive(Debug, Error)]
pub enum LanguageError {
    /// Hutch does not know the language, or the image has no interpreter for it. The
    /// values: the language, the supported ones.
    #[error("language {0:?} is not supported here; supported are {1}")]
    Unsupported(String, String),
    /// No sandbox was ready in time, or the outcome is unknown.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// One run of code.
struct CodeRun<'a> {
    runner: &'a dyn Runner,
    place: &'a Place,
    language: &'static Language,
    code: &'a str,
    cwd: Option<String>,
    timeout: Duration,
    max_output: u64,
}

impl Toolchains {
    /// Runs code in that language, once the sandbox is awake. It runs in `directory`,
    /// which starts at the place's working directory if it is relative. Without one, it
    /// runs in the working directory. The timeout includes the time to compile. Without
    /// one, it is that of the settings.
    ///
    /// # Errors
    /// See [`LanguageError`].
    pub async fn run_code(
        &self,
        place: &Place,
        language: &str,
        code: &str,
        directory: Option<&str>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutcome, LanguageError> {
        let Some(known) = language_of(language) else {
            return Err(self.unsupported(place, language).await);
        };
        let cwd = match directory {
            Some(path) if path.starts_with('/') => Some(path.to_owned()),
            Some(path) => Some(format!("{}/{path}", place.workdir)),
            None => place.cwd(),
        };
        let run = CodeRun {
            runner: &*self.runner,
            place,
            language: known,
            code,
            cwd,
            timeout: timeout.unwrap_or(self.execute_timeout),
            max_output: self.max_output,
        };
        let outcome = run.run().await?;
        let missing = format!("{}: command not found\n", known.program);
        if outcome.exit_code == 127 && outcome.stderr == missing.as_bytes() {
            return Err(self.unsupported(place, language).await);
        }
        Ok(outcome)
    }

    /// Makes the error that lists the languages for which the image has a program.
    async fn unsupported(&self, place: &Place, language: &str) -> LanguageError {
        let programs = LANGUAGES.each_ref().map(|language| language.program);
        let programs = programs.join(" ");
        let look = format!("for p in {programs}; do command -v $p >/dev/null && echo $p; done");
        let request = ExecRequest::script(&look, 4096);
        let found = match self.runner.exec(place, request).await {
            Ok(outcome) => outcome.stdout,
            Err(error) => return error.into(),
        };
        let found = String::from_utf8_lossy(&found);
        let names = LANGUAGES.iter().filter(|language| {
            language.program == SHELL || found.lines().any(|line| line == language.program)
        });
        let names: Vec<_> = names.map(|language| language.names[0]).collect();
        LanguageError::Unsupported(language.to_owned(), names.join(", "))
    }
}

impl CodeRun<'_> {
    async fn run(&self) -> Result<ExecOutcome, ServiceError> {
        if self.language.program == SHELL {
            let script = Program::Script(self.code.to_owned().into());
            return self.exec(script, Duration::ZERO).await;
        }
        match self.language.inline(self.code) {
            Some(argv) => self.exec(argv, Duration::ZERO).await,
            None => self.run_file().await,
        }
    }

    /// Runs a program, with the timeout less the time that is spent already.
    async fn exec(&self, program: Program, spent: Duration) -> Result<ExecOutcome, ServiceError> {
        let left = self.timeout.saturating_sub(spent);
        let request = ExecRequest {
            program,
            cwd: self.cwd.clone(),
            timeout: Some(left.max(MIN_TIMEOUT)),
            ..ExecRequest::script("", self.max_output)
        };
        self.runner.exec(self.place, request).await
    }

    /// Writes the code to a file, runs the file and deletes it.
    async fn run_file(&self) -> Result<ExecOutcome, ServiceError> {
        let program = format!("/tmp/hutch-{}", uuid::Uuid::new_v4());
        let file = format!("{program}.{}", self.language.suffix);
        let (runner, place) = (self.runner, self.place);
        let content = self.code.to_owned().into();
        runner.write(place, &file, content).await?;
        let outcome = self.run_written(&program, &file).await;
        // Errors are ignored: the command may have deleted the files, and a file that
        // is left does no harm.
        let _ = runner.delete(place, &file).await;
        if !self.language.compile.is_empty() {
            let _ = runner.delete(place, &program).await;
        }
        outcome
    }

    /// Runs the code in `file`. A language that is compiled gets `program` as output.
    async fn run_written(&self, program: &str, file: &str) -> Result<ExecOutcome, ServiceError> {
        let argv = |parts: &[&str]| {
            let parts = parts.iter().map(|part| (*part).to_owned());
            Program::Argv(parts.collect())
        };
        let begin = Instant::now();
        let interpreter = self.language.program;
        if self.language.compile.is_empty() {
            return self.exec(argv(&[interpreter, file]), begin.elapsed()).await;
        }
        let parts = [&[interpreter], self.language.compile, &[program, file]].concat();
        let compiled = self.exec(argv(&parts), begin.elapsed()).await?;
        if compiled.exit_code != 0 {
            return Ok(compiled);
        }
        self.exec(argv(&[program]), begin.elapsed()).await
    }
}

fn language_of(name: &str) -> Option<&'static Language> {
    let name = name.to_lowercase();
    let mut all = LANGUAGES.iter();
    all.find(|language| language.names.contains(&name.as_str()))
}
