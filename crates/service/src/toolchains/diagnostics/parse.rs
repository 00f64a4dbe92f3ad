//! Parses the output of checkers. Pure. Output that is not a finding is ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// One problem that a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The path of the file.
    pub path: String,
    /// The line, from 0.
    pub line: u32,
    /// The first column, from 0, in characters of UTF-16.
    pub column: u32,
    /// The column after the last one, on the same line.
    pub end: u32,
    /// 1: error, 2: warning, 3: information, 4: hint.
    pub severity: u8,
    /// The name of the checker.
    pub source: String,
    /// The text for people.
    pub message: String,
    /// The checker's code for this kind of finding.
    pub code: Option<String>,
}

impl Finding {
    /// An error at a line and column that count from 1.
    pub fn error(path: &str, line: u32, column: u32, source: &str, message: &str) -> Self {
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

    /// Converts the column from bytes of this line to characters of UTF-16.
    pub fn count_characters(&mut self, line: &[u8]) {
        let bytes = usize::try_from(self.column).unwrap_or(usize::MAX);
        let before = String::from_utf8_lossy(&line[..bytes.min(line.len())]);
        let column = u32::try_from(before.encode_utf16().count()).unwrap_or(u32::MAX);
        self.end = column.saturating_add(self.end.saturating_sub(self.column));
        self.column = column;
    }
}

/// Parses the output of `check.py`. Its last line may be cut off.
pub fn python(output: &str) -> Vec<Finding> {
    #[derive(Deserialize)]
    struct Row(String, u32, u32, u32, u8, String, String);
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
    let rows = output
        .lines()
        .map_while(|line| serde_json::from_str(line).ok());
    rows.map(finding).collect()
}

/// Parses the output of `go vet -json`. Errors that prevent a check are lines
/// `path:line:column: message`, perhaps after `vet: `. The findings of the analyzers are
/// warnings, as JSON by package and analyzer. Columns are in bytes.
pub fn go(output: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let mut json: Option<String> = None;
    for line in output.lines() {
        if let Some(text) = &mut json {
            text.push_str(line);
        } else if line.starts_with('{') {
            json = Some(line.to_owned());
        } else if let Some(rest) = line.strip_prefix('\t') {
            continue_last(&mut found, rest);
        } else {
            found.extend(go_error(line));
        }
        if line.ends_with('}') && !line.starts_with('\t') {
            found.extend(analyzers(&json.take().unwrap_or_default()));
        }
    }
    found
}

fn go_error(line: &str) -> Option<Finding> {
    let line = line.strip_prefix("vet: ").unwrap_or(line);
    let (place, message) = line.split_once(": ")?;
    let (path, line, column) = go_place(place)?;
    Some(Finding::error(path, line, column, "go vet", message))
}

/// Parses `path:line:column` or `path:line`.
fn go_place(place: &str) -> Option<(&str, u32, u32)> {
    let (rest, last) = place.rsplit_once(':')?;
    let last = last.parse().ok()?;
    let with_column = rest.rsplit_once(':').and_then(|(path, line)| {
        let line = line.parse().ok()?;
        Some((path, line, last))
    });
    Some(with_column.unwrap_or((rest, last, 1)))
}

fn analyzers(json: &str) -> Vec<Finding> {
    #[derive(Deserialize)]
    struct Report {
        posn: String,
        message: String,
    }
    let packages: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(json).unwrap_or_default();
    let mut found = Vec::new();
    for (analyzer, value) in packages.into_values().flatten() {
        // An analyzer that failed has no list.
        let reports: Vec<Report> = serde_json::from_value(value).unwrap_or_default();
        let finding = |report: &Report| {
            let (path, line, column) = go_place(&report.posn)?;
            Some(Finding {
                severity: 2,
                code: Some(analyzer.clone()),
                ..Finding::error(path, line, column, "go vet", &report.message)
            })
        };
        found.extend(reports.iter().filter_map(finding));
    }
    found
}

/// Parses the output of `tsc --pretty false`: lines
/// `path(line,column): error TS1234: message`. A line that begins with a space continues
/// the message.
pub fn typescript(output: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for line in output.lines() {
        match typescript_error(line) {
            Some(finding) => found.push(finding),
            None if line.starts_with(' ') => continue_last(&mut found, line),
            None => {}
        }
    }
    found
}

fn typescript_error(line: &str) -> Option<Finding> {
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
}

/// Appends a line to the last message.
fn continue_last(found: &mut [Finding], line: &str) {
    if let Some(last) = found.last_mut() {
        last.message.push('\n');
        last.message.push_str(line.trim_end());
    }
}

/// Parses the output of `node --check` for one file: after optional warnings `path:line`,
/// then the line, then a line with `^` below the place unless that is the end of the file,
/// and further down `SyntaxError: …`. Other output is not about the file.
pub fn javascript(path: &str, output: &str) -> Vec<Finding> {
    let number = |line: &str| line.rsplit_once(':')?.1.parse::<u32>().ok();
    let is_place = |line: &&str| line.starts_with('/') || line.starts_with("file://");
    let mut lines = output.lines();
    let place = lines.by_ref().filter(is_place).find_map(number);
    let (Some(line), Some(_source)) = (place, lines.next()) else {
        return Vec::new();
    };
    let mark = lines.next().unwrap_or_default();
    let before = mark.trim_start().trim_end_matches('^').is_empty();
    let mark = if before { mark } else { "" };
    let Some(message) = lines.find(|line| line.starts_with("SyntaxError: ")) else {
        return Vec::new();
    };
    let column = mark.find('^').unwrap_or(0);
    let column = u32::try_from(column).unwrap_or(0);
    let width = u32::try_from(mark.matches('^').count()).unwrap_or(1);
    vec![Finding {
        end: column + width.max(1),
        ..Finding::error(path, line, column + 1, "node", message)
    }]
}

/// Parses the output of `bash -n`: lines `path: line N: message`.
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
    fn errors_and_warnings_of_go_are_parsed_and_other_lines_are_ignored() {
        let vet = "# command-line-arguments\nvet: ./a b.go:3:2: undefined: x\n\
            go: downloading x v1\nx.go:2:8: no module x; to add it:\n\tgo get x\n\
            /w/go.mod:5: syntax error\nfound packages a (a.go) and b (b.go) in /w\n";
        let found = go(vet);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(place(&found[0]), ("./a b.go", 2, 1, 2));
        assert_eq!(
            (found[0].severity, found[0].message.as_str()),
            (1, "undefined: x")
        );
        assert_eq!(found[1].message, "no module x; to add it:\ngo get x");
        assert_eq!(place(&found[2]), ("/w/go.mod", 4, 0, 1));

        let json = "# a\n{\n\t\"a\": {\n\t\t\"printf\": [\n\t\t\t{\n\t\t\t\t\"posn\": \"/w/a.go:6:14\",\n\
            \t\t\t\t\"end\": \"/w/a.go:6:15\",\n\t\t\t\t\"message\": \"no {\\n}\"\n\t\t\t}\n\t\t]\n\t}\n}\n\
            {\"b\": {\"x\": {\"error\": \"broken\"}}}\n# c\nvet: c.go:1:1: no\n";
        let found = go(json);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(place(&found[0]), ("/w/a.go", 5, 13, 14));
        assert_eq!(
            (found[0].severity, found[0].code.as_deref()),
            (2, Some("printf"))
        );
        assert_eq!(place(&found[1]), ("c.go", 0, 0, 1));
    }

    #[test]
    fn a_column_in_bytes_becomes_one_in_characters() {
        let mut found = Finding::error("a", 1, 8, "go vet", "m");
        found.count_characters("ü😀 x".as_bytes());
        assert_eq!(place(&found), ("a", 0, 4, 5));
        let mut found = Finding::error("a", 1, 80, "go vet", "m");
        found.count_characters(b"ab");
        assert_eq!(place(&found), ("a", 0, 2, 3));
    }

    #[test]
    fn syntax_errors_of_node_are_parsed_and_its_other_output_is_ignored() {
        let node =
            "/w/x.js:2\nlet a = = 1\n        ^^\n\nSyntaxError: Unexpected token '='\n    at x\n";
        let found = javascript("/w/x.js", node);
        assert_eq!(place(&found[0]), ("/w/x.js", 1, 8, 10));
        assert_eq!(found[0].message, "SyntaxError: Unexpected token '='");
        let warned = format!("(node:7) Warning: To load, set \"type\": \"module\".\n{node}");
        assert_eq!(javascript("/w/x.js", &warned), found);
        let tabs = "file:///w/x.mjs:2\n\tlet b = = 1\n\t        ^\n\nSyntaxError: Error: no\n";
        assert_eq!(place(&javascript("x.mjs", tabs)[0]), ("x.mjs", 1, 9, 10));
        let end = "/w/x.js:3\n\n\n\nSyntaxError: Unexpected end of input\n";
        assert_eq!(place(&javascript("x.js", end)[0]), ("x.js", 2, 0, 1));
        let gone =
            "node:internal/modules/cjs/loader:1080\n  throw err;\n  ^\n\nError: Cannot find\n";
        assert!(javascript("x.js", gone).is_empty() && javascript("x.js", "").is_empty());
    }

    #[test]
    fn findings_of_the_other_checkers_are_parsed_and_other_lines_are_ignored() {
        let tsc = "src/a(1).ts(4,7): error TS2322: Type 'x': no.\n  Because.\nhello\n";
        let found = typescript(tsc);
        assert_eq!(found.len(), 1);
        assert_eq!(place(&found[0]), ("src/a(1).ts", 3, 6, 7));
        assert_eq!(found[0].code.as_deref(), Some("TS2322"));
        assert_eq!(found[0].message, "Type 'x': no.\n  Because.");

        let bash = "x: y.sh: line 3: syntax error near `fi'\nx: y.sh: line 3: `fi'\n";
        assert_eq!(shell("x: y.sh", bash).len(), 2);

        let row = r#"["a.py", 0, 4, 5, 9, "pyflakes", "undefined name 'x'"]"#;
        let found = python(&format!("{row}\n{row}\n[\"a.py\", 0"));
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].severity, place(&found[0])),
            (4, ("a.py", 0, 4, 5))
        );
        assert!(python("Traceback").is_empty());
    }
}
