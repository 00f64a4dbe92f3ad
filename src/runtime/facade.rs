//! Assembles the REST facade: one service per namespace over shared caches, channels and
//! writers, behind authentication.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Process;
use super::config::{bucket_credentials, project_template};
use crate::settings::{Access, Facade, ProjectPorts};
use hutch_api::{SandboxSpec, managers};
use hutch_core::interfaces::Authenticator;
use hutch_core::s3::AllowedEndpoints;
use hutch_db::Database;
use hutch_facade::tls::Identity;
use hutch_facade::{AuthSettings, HttpMetrics};
use hutch_kube::apply::Writer;
use hutch_kube::caches::FacadeCaches;
use hutch_kube::lease::Leadership;
use hutch_kube::watches::Cache;
use hutch_link::Pool;
use hutch_process::listen;
use hutch_service::{
    AcquireSettings, BackendSettings, BucketSettings, Interfaces, Limits, Service, ServiceSettings,
    Templates,
};
use hutch_store::access::CredentialAuthenticator;
use hutch_store::api_keys::ApiKeyStore;
use hutch_store::attached_pods::AttachedPodStore;
use hutch_store::exposures::{ExposureSettings, ExposureWriter};
use hutch_store::s3_secrets::S3SecretStore;
use hutch_store::sandboxes::SandboxStore;
use hutch_store::sessions::SessionStore;
use hutch_store::tokens::TokenReviews;

/// Makes the services of all namespaces from shared parts.
struct Services {
    caches: FacadeCaches,
    writer: Writer,
    pool: Arc<Pool>,
    database: Arc<Database>,
    operator_namespace: String,
    /// The facade's own namespace.
    home: String,
    exposures: ExposureSettings,
    settings: ServiceSettings,
    /// The one namespace that the caches have. `None`: they have all namespaces.
    watched: Option<String>,
    /// Ends the background work of the services.
    stop: CancellationToken,
}

impl Services {
    /// Makes the service of a namespace. `stop` ends its background work.
    fn over(&self, namespace: &str, stop: CancellationToken) -> Arc<Service> {
        let (caches, writer) = (&self.caches, &self.writer);
        let in_namespace = || (writer.clone(), namespace.to_owned());
        let (sandbox_writer, of_sandboxes) = in_namespace();
        let (session_writer, of_sessions) = in_namespace();
        let (pod_writer, of_pods) = in_namespace();
        let interfaces = Interfaces {
            sandboxes: Arc::new(SandboxStore::new(
                caches.sandboxes.clone(),
                sandbox_writer,
                of_sandboxes,
            )),
            session_records: Arc::new(SessionStore::new(
                caches.sessions.clone(),
                session_writer,
                of_sessions,
            )),
            s3_secrets: Arc::new(S3SecretStore::new(
                writer.clone(),
                self.operator_namespace.clone(),
            )),
            agents: self.pool.clone(),
            attached_pods: Arc::new(AttachedPodStore::new(
                caches.attached_pods.clone(),
                pod_writer,
                of_pods,
            )),
            projects: self.database.clone(),
            exposures: Arc::new(ExposureWriter::new(writer.clone(), self.exposures.clone())),
        };
        let mut settings = self.settings.clone();
        if namespace != self.home {
            // Other tenants must not use the facade's own S3 credentials.
            settings.buckets.credentials = None;
        }
        let service = Service::new(interfaces, settings);
        let recording = service.clone();
        let recorders = async move { recording.run_recorders().await };
        tokio::spawn(stop.run_until_cancelled_owned(recorders));
        service
    }

    /// Makes the service of another namespace, and a guard that ends its background work
    /// when it is dropped. The error says why there is none.
    fn over_another(&self, namespace: &str) -> Result<(Arc<Service>, DropGuard), String> {
        match &self.watched {
            Some(watched) if watched != namespace => Err(format!(
                "this facade knows the sandboxes of namespace {watched} only"
            )),
            _ => {
                tracing::info!(namespace, "serving another namespace");
                let stop = self.stop.child_token();
                Ok((self.over(namespace, stop.clone()), stop.drop_guard()))
            }
        }
    }
}

impl Process {
    /// Starts the REST server. The task ends after the shutdown, once the last request
    /// has been answered.
    pub(super) async fn facade(
        &self,
        facade: Facade,
        caches: FacadeCaches,
    ) -> anyhow::Result<JoinHandle<()>> {
        let (access, listen_on) = (facade.access.clone(), facade.listen);
        let stop = CancellationToken::new();
        let auth = self.auth_settings(&access, caches.api_keys.clone());
        let services = self.services(facade, caches, stop.clone());
        let home = services.over(&self.namespace, services.stop.clone());
        let others = move |namespace: &str| services.over_another(namespace);
        let metrics = HttpMetrics::register(&mut self.registry());
        let router = hutch_facade::router(auth, metrics, home, others);

        let identity = match (&access.tls_cert, &access.tls_key) {
            (Some(certificate), Some(key)) => Some(Identity::load(certificate, key)?),
            _ => None,
        };
        let tls = identity.as_ref().map(Identity::acceptor).transpose()?;
        let listener = listen(listen_on, "--listen").await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (at, namespace) = (listener.local_addr()?, &self.namespace);
        tracing::info!("REST on {scheme}://{at}, sandboxes in namespace {namespace}");
        if access.insecure_no_auth {
            tracing::warn!("everybody on this machine may use it: there is no authentication");
        }
        if let Some(identity) = identity {
            tokio::spawn(stop.clone().run_until_cancelled_owned(identity.run()));
        }
        let shutdown = self.shutdown.clone();
        Ok(tokio::spawn(async move {
            hutch_facade::serve(listener, router, tls, shutdown).await;
            stop.cancel();
        }))
    }

    fn auth_settings(&self, access: &Access, keys: Option<Cache<Secret>>) -> AuthSettings {
        let authenticator = keys.map(|keys| {
            let tokens = TokenReviews::new(self.client.clone());
            let keys = ApiKeyStore::new(keys, self.operator_namespace());
            let authenticator = CredentialAuthenticator::new(keys, tokens, self.namespace.clone());
            Arc::new(authenticator) as Arc<dyn Authenticator>
        });
        AuthSettings {
            audit: access.audit || authenticator.is_some(),
            authenticator,
            namespace: self.namespace.clone(),
            deadline: access.request_timeout,
            max_in_flight: access.max_in_flight,
        }
    }

    fn services(&self, facade: Facade, caches: FacadeCaches, stop: CancellationToken) -> Services {
        let settings = ServiceSettings {
            acquire: AcquireSettings {
                max_sandboxes: facade.max_sandboxes,
                ready_timeout: facade.ready_timeout,
                templates: Templates {
                    tenant: SandboxSpec::default(),
                    project: project_template(),
                },
            },
            limits: Limits {
                max_output: facade.max_output,
                max_file: facade.max_file,
            },
            execute_timeout: facade.execute_timeout,
            buckets: BucketSettings {
                credentials: bucket_credentials(&facade),
                endpoints: AllowedEndpoints::with_http(self.buckets.allow_http_buckets),
            },
            backends: BackendSettings {
                images: facade.project_images.into_iter().collect(),
                domains: facade.domains,
            },
        };
        Services {
            caches,
            writer: Writer::new(self.client.clone(), Leadership::always(), managers::FACADE),
            pool: self.pool.clone(),
            database: self.database.clone(),
            operator_namespace: self.operator_namespace(),
            home: self.namespace.clone(),
            exposures: ExposureSettings {
                cluster_ip: facade.project_ports == ProjectPorts::Cluster,
                ingress_class: facade.ingress_class,
                tls_secret: facade.ingress_tls_secret,
            },
            settings,
            watched: self.watched.clone(),
            stop,
        }
    }
}
