//! The checkers, and one run of a checker. Pure.

use super::parse::{self, Finding};
use super::paths::normalize;

/// The program that checks Python. It does not import the project's own modules.
const CHECK_PYTHON: &str = include_str!("check.py");
/// The options for TypeScript without a `tsconfig.json`, as editors set them. With
/// `commonjs`, every version of `tsc` finds packages where npm puts them.
const TYPESCRIPT: [&str; 8] = [
    "--target",
    "esnext",
    "--module",
    "commonjs",
    "--jsx",
    "preserve",
    "--allowJs",
    "--skipLibCheck",
];
/// Errors that `tsc` reports in modules only because of `commonjs`.
const COMMONJS_ERRORS: [&str; 3] = ["TS1343", "TS1378", "TS1432"];

/// A checker. The suffix of a file selects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checker {
    Python,
    Go,
    TypeScript,
    JavaScript,
    Shell,
}

/// One run of a checker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub checker: Checker,
    /// The directory in which it runs, normalized.
    pub directory: String,
    /// The files to check, as arguments.
    pub files: Vec<String>,
    /// The configuration file that selects what is checked instead of `files`.
    pub config: Option<String>,
}

impl Checker {
    pub const ALL: [Self; 5] = [
        Self::Python,
        Self::Go,
        Self::TypeScript,
        Self::JavaScript,
        Self::Shell,
    ];

    pub fn of(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1 {
            "py" | "pyi" => Some(Self::Python),
            "go" => Some(Self::Go),
            "ts" | "tsx" | "mts" | "cts" => Some(Self::TypeScript),
            "js" | "mjs" | "cjs" => Some(Self::JavaScript),
            "sh" | "bash" => Some(Self::Shell),
            _ => None,
        }
    }

    /// The name of the configuration file, which is in a source's directory or above.
    pub const fn config(self) -> Option<&'static str> {
        match self {
            Self::Go => Some("go.mod"),
            Self::TypeScript => Some("tsconfig.json"),
            Self::Python | Self::JavaScript | Self::Shell => None,
        }
    }

    /// The name that clients see as the source of a finding.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Go => "go vet",
            Self::TypeScript => "tsc",
            Self::JavaScript => "node",
            Self::Shell => "bash",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::Go => "go",
            Self::TypeScript => "tsc",
            Self::JavaScript => "node",
            Self::Shell => "bash",
        }
    }
}

impl Run {
    /// The program and its arguments.
    pub fn arguments(&self) -> Vec<String> {
        let head: Vec<&str> = match (self.checker, &self.config) {
            (Checker::Python, _) => vec!["-c", CHECK_PYTHON],
            // A file of a module can be checked only with its package.
            (Checker::Go, Some(_)) => vec!["vet", "-json", "."],
            (Checker::Go, None) => vec!["vet", "-json"],
            (Checker::TypeScript, config) => {
                let mut head = vec!["--noEmit", "--pretty", "false"];
                match config {
                    Some(config) => head.extend(["-p", config]),
                    None => head.extend(TYPESCRIPT),
                }
                head
            }
            (Checker::JavaScript, _) => vec!["--check"],
            (Checker::Shell, _) => vec!["-n"],
        };
        let files = match self.config {
            Some(_) => &[][..],
            None => &self.files,
        };
        let head = [self.checker.program()].into_iter().chain(head);
        head.map(str::to_owned)
            .chain(files.iter().cloned())
            .collect()
    }

    /// True if the image does not have the checker.
    pub fn is_missing(&self, exit_code: i32, stderr: &str) -> bool {
        let said = format!("{}: command not found\n", self.checker.program());
        exit_code == 127 && stderr == said
    }

    /// The findings in the output, with normalized paths.
    pub fn findings(&self, stdout: &str, stderr: &str) -> Vec<Finding> {
        let first = self.files.first().map(String::as_str).unwrap_or_default();
        let mut found = match self.checker {
            Checker::Python => parse::python(stdout),
            // The stream of the JSON depends on the version of Go.
            Checker::Go => [parse::go(stderr), parse::go(stdout)].concat(),
            Checker::TypeScript => parse::typescript(stdout),
            Checker::JavaScript => parse::javascript(first, stderr),
            Checker::Shell => parse::shell(first, stderr),
        };
        for finding in &mut found {
            finding.path = normalize(&self.directory, &finding.path);
        }
        found
    }

    /// False for a finding that only the options of the checker cause.
    pub fn is_for_clients(&self, finding: &Finding) -> bool {
        let code = finding.code.as_deref().unwrap_or_default();
        let without_config = self.checker == Checker::TypeScript && self.config.is_none();
        !(without_config && COMMONJS_ERRORS.contains(&code))
    }

    /// A finding about the run itself.
    pub fn remark(&self, text: &str) -> Finding {
        let first = self.files.first().map(String::as_str).unwrap_or_default();
        let name = self.checker.name();
        Finding {
            severity: 3,
            ..Finding::error(&normalize(&self.directory, first), 1, 1, name, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(checker: Checker, config: Option<&str>) -> Run {
        Run {
            checker,
            directory: "/w/x".to_owned(),
            files: vec!["./a".to_owned()],
            config: config.map(str::to_owned),
        }
    }

    #[test]
    fn a_run_with_a_configuration_names_no_files() {
        let arguments = |config| run(Checker::TypeScript, config).arguments().join(" ");
        assert_eq!(
            arguments(Some("tsconfig.json")),
            "tsc --noEmit --pretty false -p tsconfig.json"
        );
        assert!(arguments(None).ends_with("--skipLibCheck ./a"));
        let arguments = run(Checker::Go, Some("go.mod")).arguments();
        assert_eq!(arguments, ["go", "vet", "-json", "."]);
        assert_eq!(Checker::of("x.tar"), None);
        assert_eq!(Checker::of("py"), None);
    }

    #[test]
    fn errors_of_commonjs_are_reported_only_with_a_configuration() {
        let said = "a(1,1): error TS1378: Top-level\na(2,1): error TS2322: No\n";
        let told = |config| {
            let run = run(Checker::TypeScript, config);
            let found = run.findings(said, "");
            assert_eq!(found[0].path, "/w/x/a");
            found
                .into_iter()
                .filter(|it| run.is_for_clients(it))
                .count()
        };
        assert_eq!((told(None), told(Some("tsconfig.json"))), (1, 2));
    }
}
