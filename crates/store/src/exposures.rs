//! The Services and Ingresses that expose sandboxes. A sandbox has at most one of
//! each. It owns them, and they have its name.

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule,
    IngressServiceBackend, IngressSpec, IngressTLS, ServiceBackendPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use kube::ResourceExt;
use kube::api::ListParams;

use crate::error::refusal;
use hutch_api::{MANAGED_BY, Sandbox, labels};
use hutch_core::interfaces::{Exposures, ResourceError};
use hutch_kube::apply::{Error, Writer};

/// Settings of the Services and Ingresses.
#[derive(Clone, Debug, Default)]
pub struct ExposureSettings {
    /// True for Services of type ClusterIP, false for NodePort.
    pub cluster_ip: bool,
    /// IngressClass of the Ingresses; `None` for the cluster's default.
    pub ingress_class: Option<String>,
    /// Secret with the certificate of the Ingresses; `None` for no TLS.
    pub tls_secret: Option<String>,
}

/// Applies the Services and Ingresses.
pub struct ExposureWriter {
    writer: Writer,
    settings: ExposureSettings,
}

impl ExposureWriter {
    /// An exposure writer that uses the field manager of `writer`.
    pub const fn new(writer: Writer, settings: ExposureSettings) -> Self {
        Self { writer, settings }
    }

    async fn service(&self, sandbox: &Sandbox, ports: &[u16]) -> Result<Vec<u16>, Error> {
        let uid = sandbox.metadata.uid.clone().unwrap_or_default();
        let port = |port: &u16| ServicePort {
            name: Some(format!("port-{port}")),
            port: i32::from(*port),
            ..ServicePort::default()
        };
        let kind = if self.settings.cluster_ip {
            "ClusterIP"
        } else {
            "NodePort"
        };
        let service = Service {
            metadata: meta(sandbox),
            spec: Some(ServiceSpec {
                type_: Some(kind.to_owned()),
                selector: Some([(labels::SANDBOX_UID.to_owned(), uid)].into()),
                ports: Some(ports.iter().map(port).collect()),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        let applied = self.writer.apply(&service).await?;
        let applied = applied.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let reached = |wanted: &u16| {
            let found = applied
                .iter()
                .find(|port| port.port == i32::from(*wanted))?;
            u16::try_from(found.node_port.unwrap_or(found.port)).ok()
        };
        let reached: Option<Vec<_>> = ports.iter().map(reached).collect();
        reached.ok_or_else(|| Error::Unavailable("the Service has no ports".to_owned()))
    }

    async fn ingress(&self, sandbox: &Sandbox, host: &str, port: u16) -> Result<(), Error> {
        let name = sandbox.metadata.name.clone().unwrap_or_default();
        let path = HTTPIngressPath {
            path: Some("/".to_owned()),
            path_type: "Prefix".to_owned(),
            backend: IngressBackend {
                service: Some(IngressServiceBackend {
                    name,
                    port: Some(ServiceBackendPort {
                        number: Some(i32::from(port)),
                        name: None,
                    }),
                }),
                resource: None,
            },
        };
        let tls = self.settings.tls_secret.as_ref().map(|secret| IngressTLS {
            hosts: Some(vec![host.to_owned()]),
            secret_name: Some(secret.clone()),
        });
        let ingress = Ingress {
            metadata: meta(sandbox),
            spec: Some(IngressSpec {
                ingress_class_name: self.settings.ingress_class.clone(),
                rules: Some(vec![IngressRule {
                    host: Some(host.to_owned()),
                    http: Some(HTTPIngressRuleValue { paths: vec![path] }),
                }]),
                tls: tls.map(|tls| vec![tls]),
                default_backend: None,
            }),
            status: None,
        };
        self.writer.apply(&ingress).await.map(drop)
    }
}

/// Name, labels and owner of a sandbox's Service and Ingress.
fn meta(sandbox: &Sandbox) -> ObjectMeta {
    let name = sandbox.metadata.name.clone();
    let label =
        |key: &str, value: Option<&String>| (key.to_owned(), value.cloned().unwrap_or_default());
    ObjectMeta {
        labels: Some(
            [
                (labels::MANAGED_BY.to_owned(), MANAGED_BY.to_owned()),
                label(labels::SANDBOX, name.as_ref()),
                label(labels::SANDBOX_UID, sandbox.metadata.uid.as_ref()),
            ]
            .into(),
        ),
        name,
        namespace: sandbox.metadata.namespace.clone(),
        owner_references: Some(sandbox.owner_reference().into_iter().collect()),
        ..ObjectMeta::default()
    }
}

impl Exposures for ExposureWriter {
    fn expose<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        ports: &'a [u16],
    ) -> BoxFuture<'a, Result<Vec<u16>, ResourceError>> {
        async move { self.service(sandbox, ports).await.map_err(refusal) }.boxed()
    }

    fn sandboxes_behind<'a>(
        &'a self,
        namespace: &'a str,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, ResourceError>> {
        async move {
            let wanted = ListParams::default();
            let all = self
                .writer
                .matching::<Ingress>(namespace, &wanted)
                .await
                .map_err(refusal)?;
            let leads = |ingress: &&Ingress| {
                let rules = ingress.spec.as_ref().and_then(|spec| spec.rules.as_ref());
                let mut rules = rules.into_iter().flatten();
                rules.any(|rule| rule.host.as_deref() == Some(host))
            };
            let sandbox = |ingress: &Ingress| {
                let uid = ingress.labels().get(labels::SANDBOX_UID);
                uid.cloned().unwrap_or_default()
            };
            Ok(all.iter().filter(leads).map(sandbox).collect())
        }
        .boxed()
    }

    fn route<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<(), ResourceError>> {
        async move { self.ingress(sandbox, host, port).await.map_err(refusal) }.boxed()
    }
}
