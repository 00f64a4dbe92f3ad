//! The output of `testcluster quickstart`.

use std::io::Write;

use anyhow::Result;
use hutch_testcluster::{Options, Outcome, Quickstart};

pub(crate) fn up(options: Options) -> Result<()> {
    let outcome = Quickstart::here(options)?.up()?;
    let text = summary(&outcome);
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

pub(crate) fn down(options: &Options) -> Result<()> {
    let elsewhere = Quickstart::down(options)?;
    let mut out = std::io::stdout();
    writeln!(out, "Hutch and its test cluster are down.")?;
    if elsewhere {
        writeln!(
            out,
            "In the cluster that HUTCH_KUBECONFIG named, its resources stay. To remove them, and \
             every sandbox with them:\n  kubectl delete -f crds\n  kubectl delete -k config/rbac"
        )?;
    }
    Ok(())
}

fn summary(outcome: &Outcome) -> String {
    let Outcome {
        own_cluster,
        kubeconfig,
        kubectl_directory,
        url,
        log,
        reused,
        node_log,
        sandbox,
        command,
        answer,
    } = outcome;
    let cluster = if *own_cluster {
        "a test cluster of this machine"
    } else {
        "the one of HUTCH_KUBECONFIG"
    };
    let buckets = node_log.as_ref().map_or_else(
        || "run `hutch-node` on the nodes to mount any (docs/install.md)".to_owned(),
        |log| format!("mounted by hutch-node (log: {})", log.display()),
    );
    let running = if *reused { "was running" } else { "started" };
    let path = kubectl_directory
        .as_ref()
        .map_or_else(String::new, |directory| {
            format!("  export PATH=$PATH:{}\n", directory.display())
        });
    format!(
        "\n  $ {command}\n  {answer}\n\n\
         Sandbox  {sandbox}\n\
         URL      {url} ({running}; log: {})\n\
         Buckets  {buckets}\n\
         Cluster  {cluster}\n\n\
         Next:\n\
         {path}  export KUBECONFIG={}\n  \
         kubectl get sbx -o wide\n  \
         curl {url}/exec -H 'x-sandbox-id: {sandbox}' -d '{{\"command\":\"uname -a\"}}'\n  \
         kubectl apply -f config/samples/sandbox.yaml\n  \
         make down\n",
        log.display(),
        kubeconfig.display(),
    )
}
