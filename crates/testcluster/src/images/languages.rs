//! The image of the tests of languages: what `/execute` and `/lsp/diagnostics` use
//! where an image has it. No cluster starts with it; it is made when it is first
//! asked for.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::{FORMAT, Image, SANDBOX_ENV, rootfs};
use crate::build::{Cache, digest};
use crate::progress::Progress;
use crate::versions::{DEBIAN, LANGUAGES_IMAGE};

const PACKAGES: &str = "python3,bash,procps,nodejs,golang-go,pyflakes3,ruby,node-typescript";
/// What building, vetting and running Go programs does not read, which is a quarter
/// of it all: the compiler's own sources and packages, and tests.
const NOT_NEEDED: [&str; 2] = [
    r#"rm -rf "$1"/usr/lib/go-*/pkg/linux_*/cmd "$1"/usr/share/go-*/src/cmd "$1"/usr/share/go-*/test "$1"/usr/share/go-*/api "$1"/usr/share/go-*/misc"#,
    r#"find "$1"/usr/share/go-*/src \( -name testdata -prune -o -name '*_test.go' \) -exec rm -r {} +"#,
];

/// The image's archive, made where it is missing.
pub(crate) fn languages(progress: &Progress) -> Result<PathBuf> {
    let [first, second] = NOT_NEEDED;
    let key = digest(&[FORMAT, LANGUAGES_IMAGE, PACKAGES, first, second]);
    let folder = Cache::open()?.part("languages-image", DEBIAN, &key, |folder| {
        let task = progress.task("the image of languages from Debian packages (two minutes)");
        let layer = folder.join("layer.tar");
        let hooks = NOT_NEEDED.map(str::to_owned);
        rootfs::make(&layer, PACKAGES, &hooks, &task)?;
        Image {
            env: &SANDBOX_ENV,
            ..Image::new(LANGUAGES_IMAGE, &["bash"])
        }
        .write_with(&folder.join("image.tar"), &[&layer])?;
        fs::remove_file(layer)?;
        task.done();
        Ok(())
    })?;
    Ok(folder.join("image.tar"))
}
