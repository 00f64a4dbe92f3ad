//! A real S3 server, versitygw. It enforces its keys and stores objects as plain files, so
//! a test can look into a bucket without a client.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hutch_api::{Bucket, BucketProvider, SecretRef};
use hutch_testcluster::{Cluster, Options};
use tempfile::TempDir;

/// How long the server may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A server on its own loopback port; dropping it kills it.
pub struct S3 {
    child: Child,
    host: String,
    /// True if it uses TLS.
    tls: bool,
    directory: TempDir,
    pub port: u16,
    /// Its only account.
    pub access_key: String,
    pub secret_key: String,
}

impl S3 {
    /// Starts a server with new keys and a bucket `data`.
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1", None).await
    }

    /// The same on an address of this machine. It uses TLS if there is a certificate with
    /// its key (files).
    pub async fn start_on(host: &str, tls: Option<(PathBuf, PathBuf)>) -> Self {
        let host = host.to_owned();
        let started = tokio::task::spawn_blocking(move || Self::start_now(host, tls));
        started.await.unwrap()
    }

    fn start_now(host: String, tls: Option<(PathBuf, PathBuf)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (access_key, secret_key) = (random("AKIA"), random("secret"));
        let objects = directory.path().join("objects");
        std::fs::create_dir(&objects).unwrap();
        let listener = TcpListener::bind((host.as_str(), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.args(["--port", &format!("{host}:{port}")]);
        if let Some((certificate, key)) = &tls {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        let child = command
            .arg("posix")
            .arg(&objects)
            .env("ROOT_ACCESS_KEY", &access_key)
            .env("ROOT_SECRET_KEY", &secret_key)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("versitygw starts");
        let server = Self {
            child,
            host,
            tls: tls.is_some(),
            directory,
            port,
            access_key,
            secret_key,
        };
        server.until_open();
        server.make("data");
        server
    }

    /// Gives its account another key.
    pub fn change_key(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.secret_key = random("secret");
        let log = File::create(self.directory.path().join("log")).unwrap();
        let address = format!("{}:{}", self.host, self.port);
        self.child = Command::new(program())
            .args(["--port", &address, "posix"])
            .arg(self.directory.path().join("objects"))
            .env("ROOT_ACCESS_KEY", &self.access_key)
            .env("ROOT_SECRET_KEY", &self.secret_key)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("versitygw starts");
        self.until_open();
    }

    fn until_open(&self) {
        let give_up = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((self.host.as_str(), self.port)).is_err() {
            assert!(Instant::now() < give_up, "the S3 server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    /// Makes a bucket.
    pub fn make(&self, bucket: &str) {
        std::fs::create_dir(self.path(bucket, "")).unwrap();
    }

    /// The content of an object; `None` if there is none.
    pub fn get(&self, bucket: &str, key: &str) -> Option<String> {
        std::fs::read_to_string(self.path(bucket, key)).ok()
    }

    /// Puts an object.
    pub fn put(&self, bucket: &str, key: &str, text: &str) {
        let path = self.path(bucket, key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The file of an object.
    pub fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.directory.path().join("objects").join(bucket).join(key)
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let (signal, pid) = (format!("-{name}"), self.child.id().to_string());
        let sent = Command::new("kill").args([signal, pid]).status();
        assert!(sent.unwrap().success());
    }

    /// An entry of a Sandbox's spec: the bucket `data`, with the keys in the Secret
    /// `keys`.
    pub fn bucket(&self, name: &str, mount_path: &str) -> Bucket {
        Bucket {
            name: name.to_owned(),
            bucket: "data".to_owned(),
            prefix: None,
            endpoint: self.url(),
            region: None,
            provider: BucketProvider::Other,
            mount_path: mount_path.to_owned(),
            read_only: false,
            options: Vec::new(),
            credentials_secret_ref: SecretRef {
                name: "keys".to_owned(),
                namespace: None,
            },
        }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary that `testcluster run` has built. It is built now if it is missing.
fn program() -> PathBuf {
    match std::env::var_os("HUTCH_VERSITYGW") {
        Some(path) => path.into(),
        None => Cluster::s3_server(&Options::default()).expect("versitygw is built"),
    }
}

fn random(prefix: &str) -> String {
    format!("{prefix}{}", uuid::Uuid::new_v4().simple())
}
