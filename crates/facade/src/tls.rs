//! The facade's certificate and key: two files, as a mounted Secret has them, which
//! are read anew when they change. A pair that cannot be used leaves the one before
//! in use and says so.

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

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Why a pair of files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}")]
    File(PathBuf, std::io::Error),
    /// A file is not what it should be.
    #[error("{0} has no {1} in PEM: {2}")]
    Pem(PathBuf, &'static str, pem::Error),
    /// There is no certificate in the file.
    #[error("{0} has no certificate in PEM")]
    Empty(PathBuf),
    /// The two do not belong together, or are of a kind that is not known.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(rustls::Error),
}

/// Certificate and key, as they are now.
#[derive(Debug)]
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

/// What was in the files, to know a change by.
type Content = [u8; 32];

impl Identity {
    /// The pair in these files.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let (pair, _) = read(certificate, key);
        Ok(Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(Arc::new(pair?)),
        }))
    }

    /// What makes connections with the current pair.
    ///
    /// # Errors
    /// When the library knows no version of TLS.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Takes up what changes in the files, for as long as it is polled.
    pub async fn keep(self: Arc<Self>) {
        let mut seen = None;
        loop {
            let files = self.clone();
            let read = tokio::task::spawn_blocking(move || read(&files.certificate, &files.key));
            if let Ok((pair, content)) = read.await
                && seen != Some(content)
            {
                match pair {
                    Ok(pair) => self.take(pair, seen.is_none()),
                    Err(error) => {
                        tracing::error!(%error, "the new TLS certificate is not used, the one before stays");
                    }
                }
                seen = Some(content);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn take(&self, pair: CertifiedKey, first: bool) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
        if !first {
            tracing::info!("a new TLS certificate is used");
        }
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}

/// The pair in the files, and what was in them.
fn read(certificate: &Path, key: &Path) -> (Result<CertifiedKey, TlsError>, Content) {
    let bytes = |path: &Path| {
        let read = std::fs::read(path);
        read.map_err(|error| TlsError::File(path.to_owned(), error))
    };
    let (chain, private) = (bytes(certificate), bytes(key));
    let mut content = Sha256::new();
    for read in [&chain, &private] {
        let bytes = read.as_deref().unwrap_or_default();
        content.update(bytes.len().to_be_bytes());
        content.update(bytes);
    }
    let pair = chain.and_then(|chain| pair(&chain, &private?, certificate, key));
    (pair, content.finalize().into())
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

    fn written(folder: &Path, certificate: &str, key: &str) -> (PathBuf, PathBuf) {
        let paths = (folder.join("tls.crt"), folder.join("tls.key"));
        std::fs::write(&paths.0, certificate).unwrap();
        std::fs::write(&paths.1, key).unwrap();
        paths
    }

    #[test]
    fn a_pair_that_does_not_belong_together_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        let keys = [&one, &other].map(|made| made.signing_key.serialize_pem());
        let (certificate, key) = written(folder.path(), &one.cert.pem(), &keys[0]);
        assert!(Identity::load(&certificate, &key).is_ok());
        for (chain, private) in [
            (one.cert.pem(), keys[1].clone()),
            (String::new(), keys[0].clone()),
            (one.cert.pem(), "nonsense".to_owned()),
            ("nonsense".to_owned(), keys[0].clone()),
        ] {
            let (certificate, key) = written(folder.path(), &chain, &private);
            assert!(Identity::load(&certificate, &key).is_err());
        }
        assert!(Identity::load(&certificate, &folder.path().join("none")).is_err());
    }
}
