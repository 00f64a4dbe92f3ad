//! Running code in the languages that an image has interpreters for. Code is an
//! argument of its interpreter, or the content of a file where it is too long or
//! has to be compiled first; it is never put into a line of a shell.

use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::files::{Base, ClientPath};
use super::projects::Place;
use super::{Service, ServiceError};
use hutch_core::exec::{ExecOutcome, ExecRequest, Program};

/// Longest code that is an argument: the kernel takes 128 KiB.
const LONGEST: usize = 100 << 10;
/// What is left for code whose time has passed before it began.
const SHORTEST: Duration = Duration::from_millis(1);

/// What the agent runs scripts with.
const SHELL: &str = "bash";

/// A language, by the names that clients use.
struct Language {
    names: &'static [&'static str],
    program: &'static str,
    /// What comes before code as an argument, glued to it behind a `=`; nothing
    /// where code has to be a file. It keeps code from being read as an option.
    inline: &'static [&'static str],
    /// Arguments before the name of the program that is to be made and of the file,
    /// for languages whose code is compiled first.
    compile: &'static [&'static str],
    /// Suffix of a file.
    suffix: &'static str,
}

const LANGUAGES: [Language; 8] = [
    // A script of the agent's, which has sh do where the image has no bash.
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
    // `go run` would answer 1 for every exit code.
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
    /// The program with code as its argument, if it can be one.
    fn inline(&self, code: &str) -> Option<Program> {
        let (last, before) = self.inline.split_last()?;
        let mut argv = vec![self.program.to_owned()];
        argv.extend(before.iter().map(|argument| (*argument).to_owned()));
        if last.ends_with('=') {
            argv.push(format!("{last}{code}"));
        } else {
            argv.extend([(*last).to_owned(), code.to_owned()]);
        }
        (code.len() <= LONGEST).then_some(Program::Argv(argv))
    }
}

/// Why code was not run.
#[derive(Debug, Error)]
pub enum LanguageError {
    /// Hutch or the image does not know the language.
    #[error("language {0:?} is not supported here; supported are {1}")]
    Unsupported(String, String),
    /// It has no outcome.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl Service {
    /// Runs code in that language, once the sandbox is awake, in the place's working
    /// directory, or in `folder`, which begins there where it is relative.
    ///
    /// # Errors
    /// See [`LanguageError`].
    pub async fn run_code(
        &self,
        place: &Place,
        language: &str,
        code: &str,
        folder: Option<&str>,
        timeout: Duration,
    ) -> Result<ExecOutcome, LanguageError> {
        let wanted = language.to_lowercase();
        let known = LANGUAGES
            .iter()
            .find(|known| known.names.contains(&wanted.as_str()));
        let Some(known) = known else {
            return Err(self.unsupported(place, language).await);
        };
        let cwd = match folder {
            Some(path) if path.starts_with('/') => Some(path.to_owned()),
            Some(path) => Some(format!("{}/{path}", place.workdir)),
            None => place.cwd(),
        };
        let request = |program, timeout| ExecRequest {
            program,
            cwd: cwd.clone(),
            timeout: Some(timeout),
            ..ExecRequest::script("", self.settings.max_output)
        };
        let outcome = match known.inline(code) {
            _ if known.program == SHELL => {
                let script = Program::Script(code.to_owned().into());
                self.exec(&place.target, request(script, timeout)).await?
            }
            Some(argv) => self.exec(&place.target, request(argv, timeout)).await?,
            None => {
                self.run_file(place, known, code, |program, spent| {
                    request(program, timeout.saturating_sub(spent).max(SHORTEST))
                })
                .await?
            }
        };
        let missing = format!("{}: command not found\n", known.program);
        if outcome.exit_code == 127 && outcome.stderr == missing.as_bytes() {
            return Err(self.unsupported(place, language).await);
        }
        Ok(outcome)
    }

    /// How long code may run that names no time-out.
    pub fn execute_timeout(&self) -> Duration {
        self.settings.execute_timeout
    }

    async fn run_file(
        &self,
        place: &Place,
        language: &Language,
        code: &str,
        request: impl Fn(Program, Duration) -> ExecRequest,
    ) -> Result<ExecOutcome, ServiceError> {
        let program = format!("/tmp/hutch-{}", uuid::Uuid::new_v4());
        let file = format!("{program}.{}", language.suffix);
        let path = |path| ClientPath {
            path,
            base: Base::Folder("/"),
        };
        let content = code.to_owned().into();
        self.write_file(&place.target, path(&file), &content)
            .await?;
        let outcome = self
            .run_written(place, language, (&program, &file), request)
            .await;
        // The command may have removed them, and they are in nobody's way.
        let _ = self.delete_file(&place.target, path(&file)).await;
        if !language.compile.is_empty() {
            let _ = self.delete_file(&place.target, path(&program)).await;
        }
        outcome
    }

    async fn run_written(
        &self,
        place: &Place,
        language: &Language,
        (program, file): (&str, &str),
        request: impl Fn(Program, Duration) -> ExecRequest,
    ) -> Result<ExecOutcome, ServiceError> {
        let argv = |parts: &[&str]| {
            let parts = parts.iter().map(|part| (*part).to_owned());
            Program::Argv(parts.collect())
        };
        let begin = Instant::now();
        let interpreter = language.program;
        if language.compile.is_empty() {
            let run = request(argv(&[interpreter, file]), begin.elapsed());
            return self.exec(&place.target, run).await;
        }
        let parts = [&[interpreter], language.compile, &[program, file]].concat();
        let compiled = self
            .exec(&place.target, request(argv(&parts), begin.elapsed()))
            .await?;
        if compiled.exit_code != 0 {
            return Ok(compiled);
        }
        self.exec(&place.target, request(argv(&[program]), begin.elapsed()))
            .await
    }

    /// The error that names what the image has.
    async fn unsupported(&self, place: &Place, language: &str) -> LanguageError {
        let programs = LANGUAGES.map(|language| language.program).join(" ");
        let look = format!("for p in {programs}; do command -v $p >/dev/null && echo $p; done");
        let request = ExecRequest::script(&look, 4096);
        let found = match self.exec(&place.target, request).await {
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
