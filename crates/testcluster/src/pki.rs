//! Certificates and kubeconfigs: one authority, one certificate per identity. They are made
//! once per state directory. All are X.509 v3, because rustls refuses older versions.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::layout::Layout;
use crate::network::Slot;

/// The node's name, which is part of its certificate.
pub(crate) const NODE: &str = "testcluster";

/// The URL of the API server, for the machine and for every component.
pub(crate) fn server(slot: Slot) -> String {
    format!("https://{}:6443", slot.node())
}

/// The clients of the API server: component, common name, organisation.
const CLIENTS: [(&str, &str, &str); 6] = [
    ("admin", "hutch-admin", "system:masters"),
    (
        "kube-apiserver-kubelet-client",
        "kube-apiserver-kubelet-client",
        "system:masters",
    ),
    (
        "kube-controller-manager",
        "system:kube-controller-manager",
        "",
    ),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
    ("kubelet-client", "system:node:testcluster", "system:nodes"),
];

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Makes all certificates and kubeconfigs, unless a complete set exists.
pub(crate) fn make(layout: &Layout, slot: Slot) -> Result<()> {
    // It is written last, so it exists only if all others exist.
    if layout.kubeconfig().exists() {
        return Ok(());
    }
    let authority = authority()?;
    fs::write(layout.pki("ca.crt"), authority.pem())?;
    write_secret(&layout.pki("ca.key"), &authority.key().serialize_pem())?;
    let accounts = KeyPair::generate()?;
    write_secret(&layout.pki("accounts.key"), &accounts.serialize_pem())?;
    fs::write(layout.pki("accounts.pub"), accounts.public_key_pem())?;
    serving(
        layout,
        &authority,
        "kube-apiserver",
        &api_server_names(slot)?,
    )?;
    serving(layout, &authority, "kubelet", &[ip(slot.node())])?;
    for (component, name, organisation) in CLIENTS {
        let params = client(name, organisation);
        let pair = sign(layout, &authority, component, params)?;
        let path = if component == "admin" {
            continue;
        } else {
            layout.kubeconfig_of(component)
        };
        write_secret(&path, &kubeconfig(slot, &authority.pem(), &pair))?;
    }
    let admin = (
        fs::read_to_string(layout.pki("admin.crt"))?,
        fs::read_to_string(layout.pki("admin.key"))?,
    );
    write_secret(
        &layout.kubeconfig(),
        &kubeconfig(slot, &authority.pem(), &admin),
    )
}

fn authority() -> Result<Authority> {
    let mut params = params("hutch-testcluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // One hour back, in case the clock is set back while the cluster runs.
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(3650);
    params
}

fn client(name: &str, organisation: &str) -> CertificateParams {
    let mut params = params(name);
    if !organisation.is_empty() {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organisation);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn ip(address: Ipv4Addr) -> SanType {
    SanType::IpAddress(IpAddr::V4(address))
}

fn api_server_names(slot: Slot) -> Result<Vec<SanType>> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    let mut all = vec![ip(Ipv4Addr::LOCALHOST), ip(slot.node()), ip(slot.service())];
    for name in names
        .into_iter()
        .chain(["kubernetes.default.svc.cluster.local"])
    {
        all.push(SanType::DnsName(name.try_into()?));
    }
    Ok(all)
}

fn serving(
    layout: &Layout,
    authority: &Authority,
    component: &str,
    names: &[SanType],
) -> Result<()> {
    let mut params = params(component);
    params.subject_alt_names = names.to_vec();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(layout, authority, component, params).map(drop)
}

/// Certificate and key, as PEM, also written to `pki/<component>.crt|key`.
fn sign(
    layout: &Layout,
    authority: &Authority,
    component: &str,
    params: CertificateParams,
) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    fs::write(layout.pki(&format!("{component}.crt")), certificate.pem())?;
    write_secret(
        &layout.pki(&format!("{component}.key")),
        &key.serialize_pem(),
    )?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// A kubeconfig that contains its certificates, so that it can be copied.
fn kubeconfig(slot: Slot, authority: &str, (certificate, key): &(String, String)) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NODE,
        "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": NODE}}],
        "clusters": [{"name": NODE, "cluster": {
            "server": server(slot),
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{"name": NODE, "user": {
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key),
        }}],
    });
    format!("{config:#}\n")
}

fn write_secret(path: &Path, content: &str) -> Result<()> {
    use std::io::Write;
    let partial = path.with_extension("partial");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(content.as_bytes())?;
    Ok(fs::rename(partial, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_made_once_and_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), Slot::numbered(1));
        fs::create_dir_all(layout.pki("")).unwrap();
        make(&layout, Slot::numbered(1)).unwrap();
        let first = fs::read_to_string(layout.kubeconfig()).unwrap();
        assert!(first.contains("https://10.161.255.2:6443"));
        make(&layout, Slot::numbered(1)).unwrap();
        assert_eq!(first, fs::read_to_string(layout.kubeconfig()).unwrap());
        for (component, ..) in CLIENTS {
            assert!(layout.pki(&format!("{component}.crt")).exists());
        }
    }

    #[test]
    fn the_kubelet_is_known_by_the_name_of_its_node() {
        assert!(
            CLIENTS
                .iter()
                .any(|(_, name, _)| *name == format!("system:node:{NODE}"))
        );
    }
}
