//! Generated files are up to date with the types they are generated from.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;

/// A larger definition comes near the limit of the API server, and is hard to read.
const MAX_DEFINITION_BYTES: usize = 40 << 10;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_manifests_in_crds_and_in_the_chart_are_those_of_the_types() {
    for crd in hutch_api::definitions() {
        let wanted = serde_yaml_ng::to_string(&crd).unwrap();
        for directory in ["crds", "charts/hutch/files/crds"] {
            let path = format!("{directory}/{}.yaml", crd.spec.names.plural);
            assert!(
                read(&path) == wanted,
                "{path} is not up to date: run `make generate`"
            );
        }
        let (name, size) = (&crd.spec.names.plural, wanted.len());
        assert!(size < MAX_DEFINITION_BYTES, "{name} has {size} bytes");
    }
}

#[test]
fn the_table_of_reasons_is_that_of_the_types() {
    let page = read("docs/crds.md");
    let (_, rest) = page.split_once("<!-- reasons -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- /reasons -->").unwrap();
    assert!(
        table == hutch_core::reasons::table(),
        "docs/crds.md is not up to date: run `make generate`"
    );
}

#[test]
fn the_reference_of_the_fields_is_that_of_the_types() {
    assert!(
        read("docs/reference.md") == hutch_api::reference(),
        "docs/reference.md is not up to date: run `make generate`"
    );
}
