//! Compares the paths of checkers with those of clients: the same file has several. Pure,
//! so symbolic links are not followed.

/// The path without `.`, `..` and empty parts. A relative path starts at `directory`. The
/// result is relative if both are.
pub fn normalize(directory: &str, path: &str) -> String {
    let joined = if directory.is_empty() || path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    };
    let absolute = joined.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
}

/// The directory and the name of a normalized path.
pub fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => ("", path),
    }
}

/// The rest of a normalized path that is below a normalized directory.
pub fn below<'a>(directory: &str, path: &'a str) -> Option<&'a str> {
    match directory {
        "" => (!path.starts_with('/')).then_some(path),
        "/" => path.strip_prefix('/'),
        directory => path.strip_prefix(directory)?.strip_prefix('/'),
    }
}

/// True if two normalized paths mean one file. A relative one starts at the container's
/// own working directory, which is not known here.
pub fn is_same(one: &str, other: &str) -> bool {
    let ends = |long: &str, short: &str| {
        long.starts_with('/') && !short.starts_with('/') && long.ends_with(&format!("/{short}"))
    };
    one == other || ends(one, other) || ends(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_other_names() {
        for (directory, path, expected) in [
            ("/w", "./a.go", "/w/a.go"),
            ("/w/x", "../a//b.go", "/w/a/b.go"),
            ("/", "../a", "/a"),
            ("/w", "/t/./a", "/t/a"),
            (".", "x/./a", "x/a"),
            (".", "../a", "../a"),
            ("", "a", "a"),
        ] {
            assert_eq!(normalize(directory, path), expected);
        }
        assert!(is_same("/w/x/a.go", "x/a.go") && !is_same("/w/yx/a.go", "x/a.go"));
        assert!(!is_same("/w/b/a.go", "/w/a.go"));
    }

    #[test]
    fn a_path_is_taken_apart() {
        assert_eq!(split("/a"), ("/", "a"));
        assert_eq!(split("/w/a"), ("/w", "a"));
        assert_eq!(split("a"), ("", "a"));
        assert_eq!(below("/w", "/w/a/b"), Some("a/b"));
        assert_eq!(below("/w", "/wa/b"), None);
        assert_eq!(below("", "a/b"), Some("a/b"));
        assert_eq!(below("/", "/a"), Some("a"));
    }
}
