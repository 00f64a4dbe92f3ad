//! Parses the option string of a volume like k8s-csi-s3 does. Whitespace separates words.
//! Double quotes keep a word together, and a backslash within them escapes the next
//! character. Pure.

/// An option and its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flag {
    /// The name with its dashes, or a stray word without dashes.
    pub name: String,
    /// The text after `=`, or the next word.
    pub value: Option<String>,
}

/// Splits the string into words. `None` if a quote is not closed.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let (mut all, mut word) = (Vec::new(), None::<String>);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '"' => break,
                        '\\' => word.push(characters.next()?),
                        c => word.push(c),
                    }
                }
            }
            c if c.is_whitespace() => all.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    Some(all)
}

/// Joins options with their values. Mounters get no positional arguments here, so a word
/// without a dash is the value of the option before it.
pub(super) fn flags(words: Vec<String>) -> Vec<Flag> {
    let mut all: Vec<Flag> = Vec::new();
    for word in words {
        if let Some(value) = word.strip_prefix("-o").filter(|value| !value.is_empty()) {
            all.push(flag("-o", Some(value)));
        } else if word.starts_with('-') {
            match word.split_once('=') {
                Some((name, value)) => all.push(flag(name, Some(value))),
                None => all.push(flag(&word, None)),
            }
        } else {
            match all.last_mut().filter(|last| last.value.is_none()) {
                Some(last) => last.value = Some(word),
                None => all.push(flag(&word, None)),
            }
        }
    }
    all
}

fn flag(name: &str, value: Option<&str>) -> Flag {
    Flag {
        name: name.to_owned(),
        value: value.map(ToOwned::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitespace_separates_words_and_quotes_keep_them_together() {
        let split = |text| words(text).unwrap_or_default();
        assert_eq!(
            split("  -o ro\t--uid  1000 "),
            ["-o", "ro", "--uid", "1000"]
        );
        assert_eq!(split(r#"-o "a b"c "" x"#), ["-o", "a bc", "", "x"]);
        assert_eq!(split(r#""a \"b\\""#), [r#"a "b\"#]);
        assert_eq!(words(r#"a "b"#), None);
        assert_eq!(words(r#""\"#), None);
    }

    #[test]
    fn a_value_follows_its_option() {
        let split = |text| flags(words(text).unwrap_or_default());
        assert_eq!(
            split("-oro -o rw --uid=1 --gid 2 --quiet stray more"),
            [
                flag("-o", Some("ro")),
                flag("-o", Some("rw")),
                flag("--uid", Some("1")),
                flag("--gid", Some("2")),
                flag("--quiet", Some("stray")),
                flag("more", None),
            ]
        );
    }
}
