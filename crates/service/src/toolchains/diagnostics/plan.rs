//! Plans which checkers run in which directories over some files, by the configuration
//! files around them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::checker::{Checker, Run};
use super::paths::{below, normalize, split};
use crate::toolchains::Toolchains;
use crate::{Place, ServiceError};

/// The number of directories, from a file's own upwards, in which its configuration is
/// looked for.
const MAX_PARENTS: usize = 32;
/// The largest number of projects of a `tsconfig.json` that are checked.
const MAX_REFERENCES: usize = 8;
/// The size in bytes of the largest configuration or source that is read.
const MAX_TEXT_BYTES: u64 = 1 << 20;

impl Toolchains {
    /// The runs that check these files of a place.
    pub(super) async fn runs(
        &self,
        place: &Place,
        files: &[String],
    ) -> Result<Vec<Run>, ServiceError> {
        let home = normalize(&place.workdir, "");
        let mut runs = Vec::new();
        for checker in Checker::ALL {
            let mine = files
                .iter()
                .filter(|file| Checker::of(file) == Some(checker));
            let mine: Vec<_> = mine.map(|file| normalize(&home, file)).collect();
            runs.extend(match checker {
                // The program takes many files at once.
                Checker::Python if !mine.is_empty() => vec![run(checker, &home, &mine)],
                Checker::Python => Vec::new(),
                Checker::JavaScript | Checker::Shell => {
                    let one = |file: &String| run(checker, &home, std::slice::from_ref(file));
                    mine.iter().map(one).collect()
                }
                Checker::Go => self.packages(place, &mine).await?,
                Checker::TypeScript => self.programs(place, &home, &mine).await?,
            });
        }
        Ok(runs)
    }

    /// The runs over Go files. The files of one directory are one package.
    async fn packages(&self, place: &Place, files: &[String]) -> Result<Vec<Run>, ServiceError> {
        let mut runs = Vec::new();
        for (directory, files) in group_by(files, |file| split(file).0.to_owned()) {
            let module = self.nearest(place, Checker::Go, &directory).await?;
            runs.push(Run {
                config: module.map(|_| "go.mod".to_owned()),
                ..run(Checker::Go, &directory, &files)
            });
        }
        Ok(runs)
    }

    /// The runs over TypeScript files. The files of one `tsconfig.json` are one program.
    /// Files without one are a program per directory, or one below the working directory.
    async fn programs(
        &self,
        place: &Place,
        home: &str,
        files: &[String],
    ) -> Result<Vec<Run>, ServiceError> {
        let mut runs = Vec::new();
        let mut with_config: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut without = Vec::new();
        for (directory, files) in group_by(files, |file| split(file).0.to_owned()) {
            match self.nearest(place, Checker::TypeScript, &directory).await? {
                Some(above) => with_config.entry(above).or_default().extend(files),
                None => without.extend(files),
            }
        }
        let own = |file: &str| match below(home, file) {
            Some(_) => home.to_owned(),
            None => split(file).0.to_owned(),
        };
        for (directory, files) in group_by(&without, own) {
            runs.push(run(Checker::TypeScript, &directory, &files));
        }
        for (directory, files) in with_config {
            let config = normalize(&directory, "tsconfig.json");
            let text = self.text(place, &config).await.unwrap_or_default();
            let others = references(&String::from_utf8_lossy(&text));
            for config in ["tsconfig.json".to_owned()].into_iter().chain(others) {
                runs.push(Run {
                    config: Some(config),
                    ..run(Checker::TypeScript, &directory, &files)
                });
            }
        }
        Ok(runs)
    }

    /// The nearest directory, from `directory` upwards, that has the configuration of
    /// the checker.
    async fn nearest(
        &self,
        place: &Place,
        checker: Checker,
        directory: &str,
    ) -> Result<Option<String>, ServiceError> {
        let Some(name) = checker.config() else {
            return Ok(None);
        };
        let mut directory = directory;
        for _ in 0..MAX_PARENTS {
            let config = normalize(directory, name);
            if self.runner.exists(place, &config).await? {
                return Ok(Some(directory.to_owned()));
            }
            if matches!(directory, "" | "/") {
                break;
            }
            directory = split(directory).0;
        }
        Ok(None)
    }

    /// The content of a file. `None` if it is too large or cannot be read.
    pub(super) async fn text(&self, place: &Place, path: &str) -> Option<Bytes> {
        self.runner.read(place, path, MAX_TEXT_BYTES).await.ok()
    }
}

/// A run over normalized paths. Each gets a form that cannot be read as an option.
fn run(checker: Checker, directory: &str, files: &[String]) -> Run {
    let named = |file: &String| match below(directory, file) {
        Some(rest) => format!("./{rest}"),
        None if file.starts_with('/') => file.clone(),
        None => format!("./{file}"),
    };
    Run {
        checker,
        directory: directory.to_owned(),
        files: files.iter().map(named).collect(),
        config: None,
    }
}

fn group_by(files: &[String], key: impl Fn(&str) -> String) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        groups.entry(key(file)).or_default().push(file.clone());
    }
    groups
}

/// The projects that a `tsconfig.json` refers to. The file is JSON with comments, so this
/// searches in its text.
fn references(text: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once("\"references\"") else {
        return Vec::new();
    };
    let list = rest.split(']').next().unwrap_or_default();
    let after = list.split("\"path\"").skip(1);
    let path = |part: &str| {
        let value = part.trim_start().strip_prefix(':')?.trim_start();
        let (path, _) = value.strip_prefix('"')?.split_once('"')?;
        // A leading `-` must not make an option of it.
        Some(if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("./{path}")
        })
    };
    after.filter_map(path).take(MAX_REFERENCES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_an_option() {
        let files = ["/w/-c.py", "/t/a.py"].map(str::to_owned);
        assert_eq!(
            run(Checker::Python, "/w", &files).files,
            ["./-c.py", "/t/a.py"]
        );
        let files = ["-c.py".to_owned()];
        assert_eq!(run(Checker::Python, "", &files).files, ["./-c.py"]);
    }

    #[test]
    fn the_projects_of_a_solution_are_found() {
        let text = r#"{ // "path": "no"
            "files": [], "references": [ { "path": "./app.json" }, {"path":"-x",}, ],
            "compilerOptions": {"paths": {"path": "no"}}}"#;
        assert_eq!(references(text), ["././app.json", "./-x"]);
        assert!(references("{}").is_empty());
    }
}
