//! The requests to the API server that the start of a cluster needs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::layout::Layout;
use crate::network::Slot;
use crate::pki::{NODE, server};

pub(crate) struct Api {
    agent: Agent,
    server: String,
}

impl Api {
    pub fn new(layout: &Layout, slot: Slot) -> Result<Self> {
        let pem =
            |file: &str| fs::read(layout.pki(file)).with_context(|| format!("reading {file}"));
        let authority = Certificate::from_pem(&pem("ca.crt")?)?;
        let certificate = Certificate::from_pem(&pem("admin.crt")?)?;
        let key = PrivateKey::from_pem(&pem("admin.key")?)?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[authority]))
            .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            // The node is on this machine; a proxy is not.
            .proxy(None)
            .build();
        Ok(Self {
            agent: config.into(),
            server: server(slot),
        })
    }

    /// True if the API server reports that it is ready.
    pub fn is_ready(&self) -> bool {
        self.answers("/readyz")
    }

    fn answers(&self, path: &str) -> bool {
        let answer = self.agent.get(format!("{}{path}", self.server)).call();
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    /// True if pods can be created: the node is ready, the default service account exists
    /// (every pod names it), and the kubelet itself answers. The last check is needed because
    /// the node stays ready for a while after the kubelet has ended.
    pub fn takes_pods(&self) -> bool {
        if !self.answers(&format!("/api/v1/nodes/{NODE}/proxy/healthz")) {
            return false;
        }
        let node = self.get(&format!("/api/v1/nodes/{NODE}"));
        let account = self.get("/api/v1/namespaces/default/serviceaccounts/default");
        account.is_ok() && node.is_ok_and(|node| node_is_ready(&node))
    }

    /// Adds the StorageClass whose volumes are directories of this machine.
    pub fn add_storage_class(&self) -> Result<()> {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/host-path",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
        });
        let url = format!("{}/apis/storage.k8s.io/v1/storageclasses", self.server);
        let answer = self.agent.post(url).send_json(&class)?;
        match answer.status().as_u16() {
            201 | 409 => Ok(()),
            status => bail!("the StorageClass was refused with {status}"),
        }
    }

    fn get(&self, path: &str) -> Result<Value> {
        let mut answer = self.agent.get(format!("{}{path}", self.server)).call()?;
        if answer.status() != 200 {
            bail!("{path}: {}", answer.status());
        }
        Ok(answer.body_mut().read_json()?)
    }
}

fn node_is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let tainted = node["spec"]["taints"]
        .as_array()
        .is_some_and(|taints| !taints.is_empty());
    !tainted
        && conditions.is_some_and(|all| {
            all.iter()
                .any(|one| one["type"] == "Ready" && one["status"] == "True")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_node_that_is_still_tainted_takes_no_pods() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        assert!(node_is_ready(&json!({"status": {"conditions": ready}})));
        let taints = json!([{"key": "node.kubernetes.io/not-ready"}]);
        assert!(!node_is_ready(
            &json!({"spec": {"taints": taints}, "status": {"conditions": ready}})
        ));
    }
}
