//! The facade's TLS certificate and key. They are two files, as in a mounted Secret, and
//! are reloaded when they change. If a new pair cannot be used, the previous one stays in
//! use and an error is logged.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

/// The time between two reads of the files.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Why a certificate and key cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{0} cannot be read: {1}")]
    File(PathBuf, std::io::Error),
    /// A file does not contain the named object in PEM.
    #[error("{0} has no {1} in PEM: {2}")]
    Pem(PathBuf, &'static str, pem::Error),
    /// The certificate file contains no certificate.
    #[error("{0} has no certificate in PEM")]
    Empty(PathBuf),
    /// Certificate and key do not match, or their algorithm is not supported.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(rustls::Error),
}

/// The current certificate and key.
#[derive(Debug)]
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

/// A hash of both files, to notice a change.
type ContentHash = [u8; 32];

impl Identity {
    /// Loads the pair from two PEM files.
    ///
    /// # Errors
    /// If a file cannot be read or the pair cannot be used.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let (pair, _) = read(certificate, key);
        Ok(Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(Arc::new(pair?)),
        }))
    }

    /// An acceptor that uses the pair that is current at each handshake.
    ///
    /// # Errors
    /// If the TLS library supports no protocol version.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reloads the pair whenever a file changes. It never returns.
    pub async fn run(self: Arc<Self>) {
        let mut loaded = None;
        loop {
            let files = self.clone();
            let read = tokio::task::spawn_blocking(move || read(&files.certificate, &files.key));
            if let Ok((pair, hash)) = read.await
                && loaded != Some(hash)
            {
                match pair {
                    Ok(pair) => {
                        self.replace(pair);
                        // The first read finds the pair that `load` has read already.
                        if loaded.is_some() {
                            tracing::info!("a new TLS certificate is used");
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "the new TLS certificate is not used, the one before stays");
                    }
                }
                loaded = Some(hash);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn replace(&self, pair: CertifiedKey) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}

/// The pair in the files, and the hash of their content.
fn read(certificate: &Path, key: &Path) -> (Result<CertifiedKey, TlsError>, ContentHash) {
    let bytes = |path: &Path| {
        let read = std::fs::read(path);
        read.map_err(|error| TlsError::File(path.to_owned(), error))
    };
    let (chain, private) = (bytes(certificate), bytes(key));
    let mut hash = Sha256::new();
    for read in [&chain, &private] {
        let bytes = read.as_deref().unwrap_or_default();
        hash.update(bytes.len().to_be_bytes());
        hash.update(bytes);
    }
    let pair = chain.and_then(|chain| pair(&chain, &private?, certificate, key));
    (pair, hash.finalize().into())
}

fn pair(
    chain: &[u8],
    private: &[u8],
    certificate: &Path,
    key: &Path,
) -> Result<CertifiedKey, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain =
        chain.map_err(|error| TlsError::Pem(certificate.to_owned(), "certificate", error))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(certificate.to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(private)
        .map_err(|error| TlsError::Pem(key.to_owned(), "private key", error))?;
    CertifiedKey::from_der(chain, private, &default_provider()).map_err(TlsError::Pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(directory: &Path, certificate: &str, key: &str) -> (PathBuf, PathBuf) {
        let paths = (directory.join("tls.crt"), directory.join("tls.key"));
        std::fs::write(&paths.0, certificate).unwrap();
        std::fs::write(&paths.1, key).unwrap();
        paths
    }

    #[test]
    fn a_certificate_with_another_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let generate = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (generate(), generate());
        let keys = [&one, &other].map(|pair| pair.signing_key.serialize_pem());
        let (certificate, key) = write_pair(directory.path(), &one.cert.pem(), &keys[0]);
        assert!(Identity::load(&certificate, &key).is_ok());
        for (chain, private) in [
            (one.cert.pem(), keys[1].clone()),
            (String::new(), keys[0].clone()),
            (one.cert.pem(), "nonsense".to_owned()),
            ("nonsense".to_owned(), keys[0].clone()),
        ] {
            let (certificate, key) = write_pair(directory.path(), &chain, &private);
            assert!(Identity::load(&certificate, &key).is_err());
        }
        assert!(Identity::load(&certificate, &directory.path().join("none")).is_err());
    }
}
