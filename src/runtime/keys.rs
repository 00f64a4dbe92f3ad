//! `hutch keys`. Keys and tables go to stdout, for scripts. Messages go to stderr.

use anyhow::Context as _;

use crate::cli::{CreateKey, Keys, KeysCommand};
use hutch_api::{API_KEYS, managers};
use hutch_core::access::{ApiKeyRecord, Limits};
use hutch_kube::apply::Writer;
use hutch_kube::client;
use hutch_kube::lease::Leadership;
use hutch_store::api_keys::{ApiKeyEditor, ApiKeyEntries, NewApiKey};

/// Executes the command line.
///
/// # Errors
/// If there is no cluster, if it refuses the request, or if a rule forbids it.
pub async fn edit(keys: Keys) -> anyhow::Result<()> {
    let config = kube::Config::infer()
        .await
        .context("no cluster: set KUBECONFIG")?;
    let client = client::connect(&config).context("the cluster's configuration cannot be used")?;
    let namespace = keys.ring.operator_namespace;
    let namespace = namespace.unwrap_or(config.default_namespace);
    let writer = Writer::new(client, Leadership::always(), managers::KEYS);
    let editor = ApiKeyEditor::new(writer, namespace.clone());
    match keys.command {
        KeysCommand::Create(wanted) => create(&editor, wanted, &namespace).await,
        KeysCommand::List => {
            let entries = editor.list().await?;
            if entries.is_empty() {
                eprintln!("there are no keys in Secret {namespace}/{API_KEYS}");
            } else {
                print!("{}", table(&entries));
            }
            Ok(())
        }
        KeysCommand::Revoke(which) => {
            let owner = match editor.revoke(&which.id).await? {
                Some(entry) => format!("of tenant {} ", entry.tenant),
                None => String::new(),
            };
            eprintln!("key {} {owner}is revoked", which.id);
            Ok(())
        }
    }
}

async fn create(editor: &ApiKeyEditor, wanted: CreateKey, namespace: &str) -> anyhow::Result<()> {
    let mut scopes = wanted.scopes;
    scopes.sort();
    scopes.dedup();
    let new = NewApiKey {
        tenant: wanted.tenant,
        namespace: wanted.namespace,
        scopes,
        limits: Limits {
            rate: wanted.rate,
            concurrency: wanted.concurrency,
        },
    };
    let key = editor.create(&new).await?;
    eprintln!(
        "key {} of tenant {}, for namespace {}, is in Secret {namespace}/{API_KEYS}.\n\
         It is shown only once:",
        key.id(),
        new.tenant,
        new.namespace
    );
    println!("{}", key.reveal());
    Ok(())
}

/// A table with a line per key.
fn table(entries: &ApiKeyEntries) -> String {
    let head = [
        "ID",
        "TENANT",
        "NAMESPACE",
        "SCOPES",
        "RATE",
        "AT ONCE",
        "CREATED",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (id, entry) in entries {
        rows.push(match entry {
            Ok(entry) => row(id, entry),
            Err(error) => vec![id.clone(), format!("(cannot be used: {error})")],
        });
    }
    let whole: Vec<_> = rows.iter().filter(|row| row.len() == head.len()).collect();
    let width = |column: usize| whole.iter().map(|row| row[column].len()).max();
    let line = |row: &Vec<String>| {
        let cell = |(column, cell): (usize, &String)| {
            format!("{cell:<width$}", width = width(column).unwrap_or(0))
        };
        let cells: Vec<_> = row.iter().enumerate().map(cell).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(id: &str, entry: &ApiKeyRecord) -> Vec<String> {
    let scopes: Vec<_> = entry.scopes.iter().map(|scope| scope.name()).collect();
    vec![
        id.to_owned(),
        entry.tenant.clone(),
        entry.namespace.clone(),
        scopes.join(","),
        format!("{}/s", entry.rate),
        entry.concurrency.to_string(),
        format!("{:.0}", entry.created),
    ]
}
