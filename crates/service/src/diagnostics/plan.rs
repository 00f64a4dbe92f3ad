//! Which checkers run where over some files, by the configurations that lie around
//! them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::checker::{Checker, Run};
use super::paths::{below, split, whole};
use crate::projects::Place;
use crate::{Service, ServiceError};

/// Folders above a file that are looked into.
const HIGHEST: usize = 32;
/// Projects that a `tsconfig.json` refers to and that are checked.
const REFERENCES: usize = 8;
/// Bytes of a configuration or a source that are read.
const LONGEST: u64 = 1 << 20;

impl Service {
    /// The runs that check these files of a place.
    pub(super) async fn runs(
        &self,
        place: &Place,
        files: &[String],
    ) -> Result<Vec<Run>, ServiceError> {
        let home = whole(&place.workdir, "");
        let mut runs = Vec::new();
        for checker in Checker::ALL {
            let mine = files
                .iter()
                .filter(|file| Checker::of(file) == Some(checker));
            let mine: Vec<_> = mine.map(|file| whole(&home, file)).collect();
            runs.extend(match checker {
                // It takes many at once.
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

    /// Files of one folder are one package.
    async fn packages(&self, place: &Place, files: &[String]) -> Result<Vec<Run>, ServiceError> {
        let mut runs = Vec::new();
        for (folder, files) in by(files, |file| split(file).0.to_owned()) {
            let module = self.nearest(place, Checker::Go, &folder).await?;
            runs.push(Run {
                config: module.map(|_| "go.mod".to_owned()),
                ..run(Checker::Go, &folder, &files)
            });
        }
        Ok(runs)
    }

    /// Files of one `tsconfig.json` are one program, and so are those without one.
    async fn programs(
        &self,
        place: &Place,
        home: &str,
        files: &[String],
    ) -> Result<Vec<Run>, ServiceError> {
        let mut runs = Vec::new();
        let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut without = Vec::new();
        for (folder, files) in by(files, |file| split(file).0.to_owned()) {
            match self.nearest(place, Checker::TypeScript, &folder).await? {
                Some(above) => known.entry(above).or_default().extend(files),
                None => without.extend(files),
            }
        }
        let own = |file: &str| match below(home, file) {
            Some(_) => home.to_owned(),
            None => split(file).0.to_owned(),
        };
        for (folder, files) in by(&without, own) {
            runs.push(run(Checker::TypeScript, &folder, &files));
        }
        for (folder, files) in known {
            let config = whole(&folder, "tsconfig.json");
            let text = self.text(place, &config).await.unwrap_or_default();
            let others = references(&String::from_utf8_lossy(&text));
            for config in ["tsconfig.json".to_owned()].into_iter().chain(others) {
                runs.push(Run {
                    config: Some(config),
                    ..run(Checker::TypeScript, &folder, &files)
                });
            }
        }
        Ok(runs)
    }

    /// The folder at or above `folder` that has the checker's configuration.
    async fn nearest(
        &self,
        place: &Place,
        checker: Checker,
        folder: &str,
    ) -> Result<Option<String>, ServiceError> {
        let Some(name) = checker.config() else {
            return Ok(None);
        };
        let mut folder = folder;
        for _ in 0..HIGHEST {
            let config = whole(folder, name);
            if self.path_exists(&place.target, place.path(&config)).await? {
                return Ok(Some(folder.to_owned()));
            }
            if matches!(folder, "" | "/") {
                break;
            }
            folder = split(folder).0;
        }
        Ok(None)
    }

    /// The beginning of a file that is there and can be read.
    pub(super) async fn text(&self, place: &Place, path: &str) -> Option<Bytes> {
        let path = place.path(path);
        let call = |pod| async move {
            let path = self.resolve(&pod, &place.target, path).await?;
            self.agents.read(&pod, &path, LONGEST).await
        };
        self.reach(&place.target, call).await.ok()
    }
}

/// A run over whole paths, each named so that none can be an option.
fn run(checker: Checker, folder: &str, files: &[String]) -> Run {
    let named = |file: &String| match below(folder, file) {
        Some(rest) => format!("./{rest}"),
        None if file.starts_with('/') => file.clone(),
        None => format!("./{file}"),
    };
    Run {
        checker,
        folder: folder.to_owned(),
        files: files.iter().map(named).collect(),
        config: None,
    }
}

fn by(files: &[String], key: impl Fn(&str) -> String) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        groups.entry(key(file)).or_default().push(file.clone());
    }
    groups
}

/// The projects that a `tsconfig.json` refers to. It is JSON with comments, of which
/// nothing else is of interest here.
fn references(text: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once("\"references\"") else {
        return Vec::new();
    };
    let list = rest.split(']').next().unwrap_or_default();
    let after = list.split("\"path\"").skip(1);
    let path = |part: &str| {
        let value = part.trim_start().strip_prefix(':')?.trim_start();
        let (path, _) = value.strip_prefix('"')?.split_once('"')?;
        // It is no option, whatever it begins with.
        Some(match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("./{path}"),
        })
    };
    after.filter_map(path).take(REFERENCES).collect()
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
