//! The image for the tests of languages: the interpreters and checkers that `/execute` and
//! `/lsp/diagnostics` use. No cluster starts with it. The first test that needs it builds it.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::{FORMAT, Image, SANDBOX_ENV, rootfs};
use crate::build::{Cache, digest};
use crate::progress::Progress;
use crate::versions::{DEBIAN, LANGUAGES_IMAGE};

const PACKAGES: &str = "python3,bash,procps,nodejs,golang-go,pyflakes3,ruby,node-typescript";
/// Removes a quarter of the image: the Go compiler's own sources and packages, and tests.
/// Go does not read them to build, vet or run programs.
const NOT_NEEDED: [&str; 2] = [
    r#"rm -rf "$1"/usr/lib/go-*/pkg/linux_*/cmd "$1"/usr/share/go-*/src/cmd "$1"/usr/share/go-*/test "$1"/usr/share/go-*/api "$1"/usr/share/go-*/misc"#,
    r#"find "$1"/usr/share/go-*/src \( -name testdata -prune -o -name '*_test.go' \) -exec rm -r {} +"#,
];

/// The image's archive. Builds it if it is not cached.
pub(crate) fn languages(progress: &Progress) -> Result<PathBuf> {
    let [first, second] = NOT_NEEDED;
    let key = digest(&[FORMAT, LANGUAGES_IMAGE, PACKAGES, first, second]);
    let directory = Cache::open()?.part("languages-image", DEBIAN, &key, |directory| {
        let task = progress.task("the image of languages from Debian packages (two minutes)");
        let layer = directory.join("layer.tar");
        let hooks = NOT_NEEDED.map(str::to_owned);
        rootfs::make(&layer, PACKAGES, &hooks, &task)?;
        Image {
            env: &SANDBOX_ENV,
            ..Image::new(LANGUAGES_IMAGE, &["bash"])
        }
        .write_with(&directory.join("image.tar"), &[&layer])?;
        fs::remove_file(layer)?;
        task.done();
        Ok(())
    })?;
    Ok(directory.join("image.tar"))
}
