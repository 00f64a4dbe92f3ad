//! Every manifest in `config/samples` works as it stands.

use serde::Deserialize;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_becomes_ready() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/samples");
    let Ok(files) = std::fs::read_dir(folder) else {
        eprintln!("there is no {folder}");
        return;
    };
    let world = World::new("samples").await;
    let _hutch = world.hutch("controller", &[]).await;
    let mut names = Vec::new();
    for file in files.map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let told = world.apply(&text);
        told.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let object = serde_json::Value::deserialize(document).unwrap();
            if object["kind"] == "Sandbox" {
                names.push(object["metadata"]["name"].as_str().unwrap().to_owned());
            }
        }
    }
    assert!(!names.is_empty());
    for name in names {
        world.ready(&name).await;
    }
}
