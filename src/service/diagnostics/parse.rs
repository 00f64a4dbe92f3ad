//! The output of checkers, as findings. Pure. What a checker prints that is no
//! finding is passed over.

use serde::Deserialize;

/// Something that a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, as its checker was given it.
    pub path: String,
    /// From 0.
    pub line: u32,
    /// From 0.
    pub column: u32,
    /// From 0, on the same line; the first column behind.
    pub end: u32,
    /// 1: error, 2: warning, 3: information, 4: hint.
    pub severity: u8,
    /// The checker.
    pub source: String,
    /// Its words.
    pub message: String,
    /// Its number for this kind of finding.
    pub code: Option<String>,
}

impl Finding {
    /// An error at a line and column that count from 1.
    fn error(path: &str, line: u32, column: u32, source: &str, message: &str) -> Self {
        let column = column.saturating_sub(1);
        Self {
            path: path.to_owned(),
            line: line.saturating_sub(1),
            column,
            end: column.saturating_add(1),
            severity: 1,
            source: source.to_owned(),
            message: message.trim().to_owned(),
            code: None,
        }
    }
}

/// What `check.py` prints.
pub fn python(output: &str) -> Vec<Finding> {
    #[derive(Deserialize)]
    struct Row(String, u32, u32, u32, u8, String, String);
    let rows: Vec<Row> = serde_json::from_str(output.trim()).unwrap_or_default();
    let finding = |row: Row| Finding {
        path: row.0,
        line: row.1,
        column: row.2,
        end: row.3,
        severity: row.4.clamp(1, 4),
        source: row.5,
        message: row.6,
        code: None,
    };
    rows.into_iter().map(finding).collect()
}

/// `path:line:column: message`, as `go vet` prints it, perhaps behind `vet: `.
pub fn go(output: &str) -> Vec<Finding> {
    let finding = |line: &str| {
        let line = line.strip_prefix("vet: ").unwrap_or(line);
        let (place, message) = line.split_once(": ")?;
        let (rest, column) = place.rsplit_once(':')?;
        let (path, line) = rest.rsplit_once(':')?;
        let (line, column) = (line.parse().ok()?, column.parse().ok()?);
        Some(Finding::error(path, line, column, "go vet", message))
    };
    output.lines().filter_map(finding).collect()
}

/// `path(line,column): error TS1234: message`, as `tsc --pretty false` prints it.
pub fn typescript(output: &str) -> Vec<Finding> {
    let finding = |line: &str| {
        let (place, rest) = line.split_once("): ")?;
        let (path, numbers) = place.rsplit_once('(')?;
        let (line, column) = numbers.split_once(',')?;
        let (kind, message) = rest.split_once(": ")?;
        let (kind, code) = kind.split_once(' ')?;
        let (line, column) = (line.parse().ok()?, column.parse().ok()?);
        Some(Finding {
            severity: if kind == "error" { 1 } else { 2 },
            code: Some(code.to_owned()),
            ..Finding::error(path, line, column, "tsc", message)
        })
    };
    output.lines().filter_map(finding).collect()
}

/// What `node --check` prints of one file: `path:line`, the line, a line with `^`
/// below the place, and further down `SyntaxError: …`.
pub fn javascript(path: &str, output: &str) -> Vec<Finding> {
    let number = |line: &str| line.rsplit_once(':')?.1.trim().parse::<u32>().ok();
    let Some(line) = output.lines().next().and_then(number) else {
        return Vec::new();
    };
    let is_mark = |line: &&str| {
        !line.is_empty()
            && line
                .trim_start_matches(' ')
                .trim_end_matches('^')
                .is_empty()
    };
    let mark = output.lines().find(is_mark).unwrap_or_default();
    let column = mark.find('^').unwrap_or(0);
    let message = output.lines().find(|line| line.contains("Error: "));
    let Some(message) = message else {
        return Vec::new();
    };
    let column = u32::try_from(column).unwrap_or(0);
    let width = u32::try_from(mark.matches('^').count()).unwrap_or(1);
    vec![Finding {
        end: column + width.max(1),
        ..Finding::error(path, line, column + 1, "node", message)
    }]
}

/// `path: line N: message`, as `bash -n` prints it.
pub fn shell(path: &str, output: &str) -> Vec<Finding> {
    let finding = |line: &str| {
        let rest = line.strip_prefix(path)?.strip_prefix(": line ")?;
        let (line, message) = rest.split_once(": ")?;
        Some(Finding::error(path, line.parse().ok()?, 1, "bash", message))
    };
    output.lines().filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(finding: &Finding) -> (&str, u32, u32, u32) {
        (&finding.path, finding.line, finding.column, finding.end)
    }

    #[test]
    fn findings_of_each_checker_are_read_and_other_lines_are_not() {
        let vet = "# command-line-arguments\nvet: ./a b.go:3:2: undefined: x\nx.go:1: nothing\n";
        let found = go(vet);
        assert_eq!(found.len(), 1);
        assert_eq!(place(&found[0]), ("./a b.go", 2, 1, 2));
        assert_eq!(found[0].message, "undefined: x");

        let tsc = "src/a(1).ts(4,7): error TS2322: Type 'x': no.\nhello\n";
        let found = typescript(tsc);
        assert_eq!(place(&found[0]), ("src/a(1).ts", 3, 6, 7));
        assert_eq!(found[0].code.as_deref(), Some("TS2322"));

        let node =
            "/w/x.js:2\nlet a = = 1\n        ^^\n\nSyntaxError: Unexpected token '='\n    at x\n";
        let found = javascript("/w/x.js", node);
        assert_eq!(place(&found[0]), ("/w/x.js", 1, 8, 10));
        assert_eq!(found[0].message, "SyntaxError: Unexpected token '='");
        assert!(javascript("x.js", "").is_empty());

        let bash = "x: y.sh: line 3: syntax error near `fi'\nx: y.sh: line 3: `fi'\n";
        assert_eq!(shell("x: y.sh", bash).len(), 2);

        let python = python(r#"[["a.py", 0, 4, 5, 9, "pyflakes", "undefined name 'x'"]]"#);
        assert_eq!(
            (python[0].severity, place(&python[0])),
            (4, ("a.py", 0, 4, 5))
        );
        assert!(super::python("Traceback").is_empty());
    }
}
