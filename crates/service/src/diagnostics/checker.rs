//! The checkers, by what they check, and one run of one of them. Pure.

use super::parse::{self, Finding};
use super::paths::whole;

/// The program that checks Python: the project's own modules are not imported.
const CHECK_PYTHON: &str = include_str!("check.py");
/// How TypeScript is taken where no `tsconfig.json` says it: as editors take it. With
/// `commonjs` every version looks packages up where npm puts them.
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
/// What `tsc` says of modules that are none for it, for the sake of `commonjs`.
const ONLY_MODULES: [&str; 3] = ["TS1343", "TS1378", "TS1432"];

/// What can be checked, by a file's suffix.
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
    /// Where it runs, as [`whole`] has it.
    pub folder: String,
    /// The files that it is asked about, as they are named to it.
    pub files: Vec<String>,
    /// The configuration that says what else is checked, for those that have one.
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

    /// The file in a folder, or above it, that says how sources below are to be
    /// taken.
    pub const fn config(self) -> Option<&'static str> {
        match self {
            Self::Go => Some("go.mod"),
            Self::TypeScript => Some("tsconfig.json"),
            Self::Python | Self::JavaScript | Self::Shell => None,
        }
    }

    /// What it calls itself.
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
    /// Program and arguments.
    pub fn arguments(&self) -> Vec<String> {
        let head: Vec<&str> = match (self.checker, &self.config) {
            (Checker::Python, _) => vec!["-c", CHECK_PYTHON],
            // A file of a module is nothing without its package.
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

    /// Whether the image has no such checker.
    pub fn is_missing(&self, exit_code: i32, stderr: &str) -> bool {
        let said = format!("{}: command not found\n", self.checker.program());
        exit_code == 127 && stderr == said
    }

    /// What it found, each in its file as [`whole`] has it.
    pub fn findings(&self, stdout: &str, stderr: &str) -> Vec<Finding> {
        let first = self.files.first().map(String::as_str).unwrap_or_default();
        let mut found = match self.checker {
            Checker::Python => parse::python(stdout),
            // Where it writes JSON differs by version.
            Checker::Go => [parse::go(stderr), parse::go(stdout)].concat(),
            Checker::TypeScript => parse::typescript(stdout),
            Checker::JavaScript => parse::javascript(first, stderr),
            Checker::Shell => parse::shell(first, stderr),
        };
        for finding in &mut found {
            finding.path = whole(&self.folder, &finding.path);
        }
        found
    }

    /// Whether a finding is for clients: one that is due to how the checker was
    /// called is not.
    pub fn tells(&self, finding: &Finding) -> bool {
        let code = finding.code.as_deref().unwrap_or_default();
        let unsaid = self.checker == Checker::TypeScript && self.config.is_none();
        !(unsaid && ONLY_MODULES.contains(&code))
    }

    /// What is to be known of the run itself.
    pub fn remark(&self, text: &str) -> Finding {
        let first = self.files.first().map(String::as_str).unwrap_or_default();
        let name = self.checker.name();
        Finding {
            severity: 3,
            ..Finding::error(&whole(&self.folder, first), 1, 1, name, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(checker: Checker, config: Option<&str>) -> Run {
        Run {
            checker,
            folder: "/w/x".to_owned(),
            files: vec!["./a".to_owned()],
            config: config.map(str::to_owned),
        }
    }

    #[test]
    fn a_configuration_takes_the_place_of_files() {
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
    fn modules_may_do_as_modules_do_where_nothing_says_what_they_are() {
        let said = "a(1,1): error TS1378: Top-level\na(2,1): error TS2322: No\n";
        let told = |config| {
            let run = run(Checker::TypeScript, config);
            let found = run.findings(said, "");
            assert_eq!(found[0].path, "/w/x/a");
            found.into_iter().filter(|it| run.tells(it)).count()
        };
        assert_eq!((told(None), told(Some("tsconfig.json"))), (1, 2));
    }
}
