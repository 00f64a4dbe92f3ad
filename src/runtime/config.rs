//! Converts the settings of the command line into the configuration of the parts. Pure.

use crate::settings::{AgentDelivery, Buckets, Controller, Database, Facade, Secret};
use hutch_api::{Compute, SandboxSpec};
use hutch_controller::context::{BucketSettings, Delivery, PodSettings};
use hutch_core::s3::{AllowedEndpoints, S3Credentials};
use hutch_db::{DatabaseSettings, Target};
use hutch_link::PoolSettings;

/// The address of the database; `None` if none of its settings is set.
///
/// # Errors
/// If the settings are invalid.
pub fn database_target(settings: &Database) -> anyhow::Result<Option<Target>> {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let secret = |secret: &Option<Secret>| {
        let text = secret.as_ref().map(|secret| secret.expose().to_owned());
        text.filter(|text| !text.is_empty())
    };
    let (url, password) = (
        secret(&settings.database_url),
        secret(&settings.postgres_password),
    );
    let (host, user) = (some(&settings.postgres_host), some(&settings.postgres_user));
    let (name, sslmode) = (
        some(&settings.postgres_db),
        some(&settings.postgres_sslmode),
    );
    let port = settings.postgres_port.and_then(|port| port.0);
    let all = [&url, &password, &host, &user, &name, &sslmode];
    if port.is_none() && all.iter().all(|one| one.is_none()) {
        return Ok(None);
    }
    let target = Target::new(&DatabaseSettings {
        url,
        host: host.unwrap_or_else(|| "localhost".to_owned()),
        port: port.unwrap_or(5432),
        user: user.unwrap_or_else(|| "crush".to_owned()),
        password: password.unwrap_or_else(|| "123456".to_owned()),
        name: name.unwrap_or_else(|| "crush".to_owned()),
        sslmode: sslmode.unwrap_or_else(|| "disable".to_owned()),
    });
    target.map(Some).map_err(anyhow::Error::msg)
}

/// The facade's own S3 credentials, if both keys are set.
pub fn bucket_credentials(facade: &Facade) -> Option<S3Credentials> {
    let key = |secret: &Option<Secret>| {
        let text = secret.as_ref()?.expose().trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    Some(S3Credentials {
        access_key_id: key(&facade.aws_access_key_id)?,
        secret_access_key: key(&facade.aws_secret_access_key)?,
    })
}

/// The spec of sandboxes of conversations and projects. The project API fixes the values.
pub fn project_template() -> SandboxSpec {
    let mut spec = SandboxSpec::default();
    spec.workspace.mount_path = "/sandbox".to_owned();
    spec.resources.limits = Some(Compute {
        cpu: Some("500m".to_owned()),
        memory: Some("256Mi".to_owned()),
        ephemeral_storage: None,
    });
    spec
}

/// The limits of the pool: those of the facade, or defaults without a facade.
pub fn pool_settings(facade: Option<&Facade>) -> PoolSettings {
    facade.map_or_else(PoolSettings::default, |facade| PoolSettings {
        channels: facade.max_channels as usize,
        idle: facade.channel_idle,
        agent: facade.agent_binary.clone(),
    })
}

/// The settings of the controllers for buckets.
pub fn bucket_settings(
    settings: &Controller,
    common: &Buckets,
    operator_namespace: String,
) -> BucketSettings {
    BucketSettings {
        csi_driver: settings.csi_driver.clone(),
        node_driver: common.node_driver.clone(),
        operator_namespace,
        watched: settings.watch_namespace.clone(),
        endpoints: AllowedEndpoints::with_http(common.allow_http_buckets),
    }
}

/// The settings of the controllers for pods. `version` is the API server's major and minor
/// version.
pub fn pod_settings(
    settings: &Controller,
    buckets: BucketSettings,
    version: (u32, u32),
) -> PodSettings {
    let defaults = PodSettings::new(&settings.default_image, &settings.agent_image, version);
    let sizes = settings.sizes.iter().map(|(namespace, size)| {
        let limits = Compute {
            cpu: Some(size.cpu.clone()),
            memory: Some(size.memory.clone()),
            ..defaults.limits.clone()
        };
        (namespace.clone(), limits)
    });
    PodSettings {
        sizes: sizes.collect(),
        buckets,
        delivery: match settings.agent_delivery {
            AgentDelivery::Auto => Delivery::Auto,
            AgentDelivery::Image => Delivery::Image,
            AgentDelivery::Init => Delivery::Init,
        },
        default_profile: settings.default_profile.into(),
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        database: Database,
    }

    fn target(arguments: &[&str]) -> Option<String> {
        let line = Line::parse_from([&["hutch"], arguments].concat());
        let target = database_target(&line.database).unwrap();
        target.map(|target| target.to_string())
    }

    #[test]
    fn variables_and_defaults_of_the_database_are_those_of_the_backend() {
        assert_eq!(target(&[]), None);
        for one in ["--postgres-host=localhost", "--postgres-sslmode=disable"] {
            assert_eq!(target(&[one]).unwrap(), "crush@localhost:5432/crush");
        }
        let others = ["--postgres-user=u", "--postgres-db=d", "--postgres-port=1"];
        assert_eq!(target(&others).unwrap(), "u@localhost:1/d");
        let url = "--database-url=postgres://a:b@c:2/e";
        assert_eq!(target(&[&others[..], &[url]].concat()).unwrap(), "a@c:2/e");
        let command = Line::command();
        let variables = command.get_arguments().filter_map(|one| one.get_env());
        let variables: Vec<_> = variables.filter_map(|name| name.to_str()).collect();
        let names = ["HOST", "PORT", "USER", "PASSWORD", "DB", "SSLMODE"];
        let names = names.map(|name| format!("POSTGRES_{name}"));
        assert_eq!(
            variables,
            [&["DATABASE_URL".to_owned()][..], &names].concat()
        );
    }
}
