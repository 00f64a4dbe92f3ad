use super::*;
use crate::sandbox::desired::buckets;
use crate::sandbox::desired::placement::Volumes;
use crate::sandbox::fixtures::{bucket, sandbox, settings};
use hutch_api::{EnvVar as Variable, Persistence, Project};

fn built(sandbox: &Sandbox, profile: SecurityProfile, image_volume: bool) -> Pod {
    pod(
        sandbox,
        &settings(),
        Placement {
            profile,
            image_volume,
            volumes: Volumes::None,
        },
        &[],
    )
}

fn root(sandbox: &Sandbox) -> PodSpec {
    built(sandbox, SecurityProfile::Root, true).spec.unwrap()
}

fn restricted(sandbox: &Sandbox) -> PodSpec {
    built(sandbox, SecurityProfile::Restricted, false)
        .spec
        .unwrap()
}

/// Asserts the rules of the Pod Security level "restricted":
/// kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
fn assert_restricted(spec: &PodSpec) {
    let pod = spec.security_context.as_ref().unwrap();
    assert_eq!(pod.run_as_non_root, Some(true));
    assert_ne!(pod.run_as_user, Some(0));
    assert_eq!(
        pod.seccomp_profile.as_ref().unwrap().type_,
        "RuntimeDefault"
    );
    for container in spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
    {
        let own = container.security_context.as_ref().unwrap();
        assert_eq!(own.allow_privilege_escalation, Some(false));
        let capabilities = own.capabilities.as_ref().unwrap();
        assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]));
        assert!(capabilities.add.is_none());
        assert!(own.privileged.is_none() && own.run_as_user.is_none());
    }
    for volume in spec.volumes.iter().flatten() {
        assert!(volume.host_path.is_none());
    }
    assert!(spec.host_network.is_none() && spec.host_pid.is_none() && spec.host_ipc.is_none());
}

#[test]
fn the_restricted_profile_meets_pod_security_restricted() {
    let spec = restricted(&sandbox(|_| ()));
    assert_restricted(&spec);
    let context = spec.security_context.unwrap();
    assert_eq!(context.fs_group, Some(1000));
    assert_eq!(
        context.fs_group_change_policy.as_deref(),
        Some("OnRootMismatch")
    );
}

#[test]
fn uid_0_always_has_a_user_namespace() {
    let spec = root(&sandbox(|_| ()));
    assert_eq!(spec.security_context.unwrap().run_as_user, Some(0));
    assert_eq!(spec.host_users, Some(false));
    let own = spec.containers[0].security_context.as_ref().unwrap();
    assert_eq!(own.allow_privilege_escalation, Some(false));
    let capabilities = own.capabilities.as_ref().unwrap();
    assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]));
    let added = capabilities.add.as_ref().unwrap();
    for needed in ["CHOWN", "SETUID", "SETGID", "DAC_OVERRIDE", "FOWNER"] {
        assert!(added.iter().any(|name| name == needed), "{needed}");
    }
    for dangerous in [
        "SYS_ADMIN",
        "NET_ADMIN",
        "NET_RAW",
        "SYS_PTRACE",
        "MKNOD",
        "SYS_MODULE",
    ] {
        assert!(!added.iter().any(|name| name == dangerous), "{dangerous}");
    }
}

#[test]
fn a_sandbox_gets_no_token_and_no_service_links_and_has_limits() {
    for spec in [root(&sandbox(|_| ())), restricted(&sandbox(|_| ()))] {
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.enable_service_links, Some(false));
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        assert!(spec.termination_grace_period_seconds.unwrap() <= 10);
        for container in spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
        {
            let limits = container
                .resources
                .as_ref()
                .unwrap()
                .limits
                .as_ref()
                .unwrap();
            for name in ["cpu", "memory", "ephemeral-storage"] {
                assert!(limits.contains_key(name), "{name}");
            }
        }
        for volume in spec.volumes.iter().flatten() {
            let empty = volume.empty_dir.as_ref();
            assert!(empty.is_none_or(|dir| dir.size_limit.is_some()));
        }
    }
}

#[test]
fn the_agent_is_the_command_and_the_users_program_its_argument() {
    let with = sandbox(|spec| spec.command = vec!["serve".into(), "$(HOME) $$x".into()]);
    let spec = root(&with);
    assert_eq!(
        spec.containers[0].command.as_deref().unwrap(),
        [
            "/.hutch/bin/hutch-agent",
            "run",
            "--",
            "serve",
            "$$(HOME) $$$$x"
        ]
    );
    assert_eq!(
        spec.containers[0].working_dir.as_deref(),
        Some("/workspace")
    );
}

#[test]
fn an_image_volume_or_an_init_container_delivers_the_agent() {
    let volume = |spec: &PodSpec| spec.volumes.as_ref().unwrap()[1].clone();
    let mount = |spec: &PodSpec| spec.containers[0].volume_mounts.as_ref().unwrap()[2].clone();
    let image = root(&sandbox(|_| ()));
    assert_eq!(
        volume(&image).image.unwrap().reference.as_deref(),
        Some("hutch:1")
    );
    assert!(image.init_containers.is_none());
    let copied = restricted(&sandbox(|_| ()));
    assert!(volume(&copied).image.is_none() && volume(&copied).empty_dir.is_some());
    let installer = &copied.init_containers.as_ref().unwrap()[0];
    assert_eq!(installer.image.as_deref(), Some("hutch:1"));
    assert_eq!(
        installer.command.as_deref().unwrap(),
        ["/hutch-agent", "install", "/.hutch/bin"]
    );
    for spec in [image, copied] {
        assert_eq!(mount(&spec).mount_path, "/.hutch/bin");
        assert_eq!(mount(&spec).read_only, Some(true));
    }
}

#[test]
fn the_workspace_and_the_state_are_directories_of_one_volume() {
    let spec = root(&sandbox(|spec| spec.workspace.mount_path = "/data".into()));
    let mounts: Vec<_> = spec.containers[0].volume_mounts.as_ref().unwrap()[..2]
        .iter()
        .map(|mount| {
            let sub_path = mount.sub_path.as_deref().unwrap();
            (mount.name.as_str(), mount.mount_path.as_str(), sub_path)
        })
        .collect();
    assert_eq!(
        mounts,
        [
            ("workspace", "/data", "workspace"),
            ("workspace", "/.hutch/state", "state")
        ]
    );
    let volume = |spec: PodSpec| spec.volumes.unwrap().remove(0);
    assert!(volume(spec).persistent_volume_claim.is_some());
    let ephemeral = root(&sandbox(|spec| {
        spec.workspace.persistence = Persistence::Ephemeral;
        spec.workspace.size = "1Gi".into();
    }));
    assert_eq!(
        volume(ephemeral).empty_dir.unwrap().size_limit.unwrap().0,
        "1Gi"
    );
}

#[test]
fn dollars_in_values_are_escaped() {
    let with = sandbox(|spec| {
        spec.env = vec![Variable {
            name: "PRICE".into(),
            value: "$(HOME) costs $5".into(),
        }];
    });
    let env = root(&with).containers[0].env.clone().unwrap();
    assert_eq!(env.len(), 1);
    assert_eq!(env[0].value.as_deref(), Some("$$(HOME) costs $$5"));
}

#[test]
fn uid_1000_has_its_home_in_the_workspace_unless_the_spec_sets_it() {
    let home = |spec: PodSpec| {
        let env = spec.containers[0].env.clone().unwrap();
        let homes: Vec<_> = env.into_iter().filter(|v| v.name == "HOME").collect();
        assert_eq!(homes.len(), 1);
        homes[0].value.clone().unwrap()
    };
    assert_eq!(home(restricted(&sandbox(|_| ()))), "/workspace");
    let own = sandbox(|spec| {
        spec.env = vec![Variable {
            name: "HOME".into(),
            value: "/home/me".into(),
        }];
    });
    assert_eq!(home(restricted(&own)), "/home/me");
}

#[test]
fn every_field_of_the_spec_has_its_effect() {
    let mut full = sandbox(|spec| {
        spec.image = Some("node:22".into());
        spec.runtime_class_name = Some("gvisor".into());
        spec.node_selector.insert("disk".into(), "fast".into());
        spec.tolerations = vec![parts::Toleration {
            key: Some("dedicated".into()),
            operator: TolerationOperator::Exists,
            value: None,
            effect: Some(TaintEffect::NoExecute),
            toleration_seconds: Some(5),
        }];
        spec.project = Some(Project { id: "p/1".into() });
    });
    full.annotations_mut()
        .insert(annotations::RESTART.into(), "7".into());
    let pod = built(&full, SecurityProfile::Root, true);
    assert_eq!(pod.annotations()[annotations::PROJECT], "p/1");
    assert_eq!(pod.annotations()[annotations::RESTART], "7");
    let spec = pod.spec.unwrap();
    assert_eq!(spec.containers[0].image.as_deref(), Some("node:22"));
    assert_eq!(spec.runtime_class_name.as_deref(), Some("gvisor"));
    assert_eq!(spec.node_selector.unwrap()["disk"], "fast");
    let toleration = &spec.tolerations.unwrap()[0];
    assert_eq!(toleration.operator.as_deref(), Some("Exists"));
    assert_eq!(toleration.effect.as_deref(), Some("NoExecute"));
    assert_eq!(toleration.toleration_seconds, Some(5));
}

#[test]
fn a_pod_is_owned_by_the_sandbox_and_named_after_it() {
    let pod = built(&sandbox(|_| ()), SecurityProfile::Root, true);
    assert_eq!(pod.name_any(), "box");
    let owner = &pod.owner_references()[0];
    assert_eq!(
        (owner.uid.as_str(), owner.controller),
        ("uid-1", Some(true))
    );
    assert_eq!(owner.block_owner_deletion, Some(true));
}

#[test]
fn a_pod_with_bucket_volumes_gives_no_bucket_to_its_group() {
    let mut read_only = bucket("docs");
    read_only.read_only = true;
    let sandbox = sandbox(|spec| spec.buckets = vec![bucket("data"), read_only]);
    let placement = Placement {
        profile: SecurityProfile::Restricted,
        image_volume: true,
        volumes: Volumes::All,
    };
    for (driver, group) in [("s3.hutch.dev", Some(1000)), ("ru.yandex.s3.csi", None)] {
        let mut settings = settings();
        settings.buckets.csi_driver = driver.into();
        let buckets = buckets::volumes(&sandbox, &settings.buckets, Volumes::All).unwrap();
        let pod = pod(&sandbox, &settings, placement, &buckets);
        let note = &pod.annotations()[annotations::BUCKETS];
        assert!(
            note.starts_with("data=") && note.contains(" docs="),
            "{note}"
        );
        let spec = pod.spec.unwrap();
        assert_restricted(&spec);
        let context = spec.security_context.unwrap();
        assert_eq!(context.fs_group, group);
        assert_eq!(context.fs_group_change_policy.is_some(), group.is_some());
        let volumes = spec.volumes.unwrap();
        let names: Vec<_> = volumes.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["workspace", "agent", "bucket-data", "bucket-docs"]);
        let claim = volumes[2].persistent_volume_claim.as_ref().unwrap();
        assert_eq!(claim.claim_name, buckets[0].claim);
        let mounts = spec.containers[0].volume_mounts.as_ref().unwrap();
        let last: Vec<_> = mounts[3..]
            .iter()
            .map(|m| (m.mount_path.as_str(), m.read_only, m.sub_path.as_ref()))
            .collect();
        assert_eq!(
            last,
            [("/mnt/data", None, None), ("/mnt/docs", Some(true), None)]
        );
    }
}

#[test]
fn a_namespace_can_have_its_own_limits() {
    let mut settings = settings();
    let small = Compute {
        cpu: Some("500m".into()),
        ..settings.limits.clone()
    };
    settings.sizes.insert("ns".into(), small);
    let cpu = |sandbox: &Sandbox| {
        let placement = Placement {
            profile: SecurityProfile::Root,
            image_volume: true,
            volumes: Volumes::None,
        };
        let pod = pod(sandbox, &settings, placement, &[]);
        let resources = pod.spec.unwrap().containers.remove(0).resources;
        resources.unwrap().limits.unwrap()["cpu"].0.clone()
    };
    let mut elsewhere = sandbox(|_| ());
    elsewhere.metadata.namespace = Some("other".into());
    assert_eq!(
        (cpu(&sandbox(|_| ())), cpu(&elsewhere)),
        ("500m".into(), "2".into())
    );
}
