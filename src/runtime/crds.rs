//! `hutch crds`: the resource definitions, and the documentation that comes from the types.

use anyhow::Context;

use crate::cli::Crds;
use hutch_core::reasons;

/// Prints or writes the output that the arguments ask for.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(arguments: &Crds) -> anyhow::Result<()> {
    if arguments.reference {
        print!("{}", hutch_api::reference());
        return Ok(());
    }
    if arguments.reasons {
        print!("{}", reasons::table());
        return Ok(());
    }
    for crd in hutch_api::definitions() {
        let text = serde_yaml_ng::to_string(&crd)?;
        let Some(directory) = &arguments.write else {
            println!("---\n{}", text.trim_end());
            continue;
        };
        let file = directory.join(format!("{}.yaml", crd.spec.names.plural));
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
