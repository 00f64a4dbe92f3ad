//! Paths of files as checkers tell them and as clients do: the same file has
//! several. Pure, so symbolic links are not followed.

/// The path without `.`, `..` and empty parts, which begins at `folder` where it is
/// relative. It is relative itself where both are.
pub fn whole(folder: &str, path: &str) -> String {
    let joined = match folder {
        _ if path.starts_with('/') => path.to_owned(),
        "" => path.to_owned(),
        folder => format!("{folder}/{path}"),
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

/// Folder and name of a whole path.
pub fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => ("", path),
    }
}

/// A whole path from a whole folder on, where it is below it.
pub fn below<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    match folder {
        "" => (!path.starts_with('/')).then_some(path),
        "/" => path.strip_prefix('/'),
        folder => path.strip_prefix(folder)?.strip_prefix('/'),
    }
}

/// Whether two whole paths mean one file. Where one is relative, its folder is the
/// container's own, which is not known here.
pub fn same(one: &str, other: &str) -> bool {
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
        for (folder, path, expected) in [
            ("/w", "./a.go", "/w/a.go"),
            ("/w/x", "../a//b.go", "/w/a/b.go"),
            ("/", "../a", "/a"),
            ("/w", "/t/./a", "/t/a"),
            (".", "x/./a", "x/a"),
            (".", "../a", "../a"),
            ("", "a", "a"),
        ] {
            assert_eq!(whole(folder, path), expected);
        }
        assert!(same("/w/x/a.go", "x/a.go") && !same("/w/yx/a.go", "x/a.go"));
        assert!(!same("/w/b/a.go", "/w/a.go"));
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
