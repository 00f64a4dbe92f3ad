//! Sessions in bash and in other shells.

mod calls;
mod hostile;
mod order;
mod state;

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hutch_wire::v1::exec_input::Input;
use hutch_wire::v1::{SetSessionVariablesRequest, Start};

use crate::copies::with_copies;
use crate::sandbox::{Call, Client, Outcome, Sandbox, agent, copy_libraries, env, script};

/// Returns a start of `text` in a session.
pub fn within(session: &str, text: &str) -> Start {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let id = format!("in-{}", NUMBER.fetch_add(1, Relaxed));
    Start {
        session: session.into(),
        ..script(&id, text)
    }
}

impl Client {
    /// Runs `text` in a session, to its end.
    pub async fn within(&self, session: &str, text: &str) -> Outcome {
        self.run(within(session, text)).await
    }

    /// Begins `text` in a session.
    pub async fn begin(&self, session: &str, text: &str) -> Call {
        self.call(Input::Start(within(session, text)))
            .await
            .unwrap()
    }

    pub async fn set(&self, session: &str, pairs: &[(&str, &str)]) -> bool {
        let request = SetSessionVariablesRequest {
            id: session.into(),
            env: env(pairs),
        };
        let reply = self.agent.clone().set_session_variables(request).await;
        reply.unwrap().into_inner().created
    }
}

/// The shells that a sandbox may have. Each shell other than bash has its own image,
/// without bash.
pub enum Image {
    /// Commands run in copies of bash from the first one on.
    Bash,
    /// A bash without a symbol that copies need. It is started for every command.
    Uncopied(tempfile::TempPath),
    Other(tempfile::TempDir),
}

impl Image {
    /// The images with bash.
    pub fn bashes() -> Vec<(&'static str, Self)> {
        let mut bash = std::fs::read("/bin/bash").unwrap();
        let name = b"\0dollar_dollar_pid\0";
        let place = bash.windows(name.len()).position(|bytes| bytes == name);
        bash[place.unwrap() + 1] = b'x';
        let mut uncopied = tempfile::NamedTempFile::new().unwrap();
        uncopied.write_all(&bash).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        uncopied.as_file().set_permissions(mode).unwrap();
        vec![
            ("bash", Self::Bash),
            ("bash-uncopied", Self::Uncopied(uncopied.into_temp_path())),
        ]
    }

    /// All shells that this machine can provide. Prints the ones that it cannot.
    pub fn all() -> Vec<(&'static str, Self)> {
        let mut all = Self::bashes();
        for name in ["dash", "busybox"] {
            let found = ["/bin", "/usr/bin"]
                .iter()
                .map(|directory| Path::new(directory).join(name))
                .find(|path| path.exists());
            match found {
                None => eprintln!("skipped: there is no {name} on this machine"),
                Some(_) if !Path::new("/bin/busybox").exists() => {
                    eprintln!("skipped: an image for {name} needs /bin/busybox");
                }
                Some(path) => all.push((name, Self::Other(image(&path)))),
            }
        }
        all
    }

    pub async fn sandbox(&self, state: &Path) -> Sandbox {
        match self {
            Self::Bash => {
                let sandbox = Sandbox::with_state(state).await;
                with_copies(&sandbox).await;
                sandbox
            }
            Self::Uncopied(bash) => Sandbox::with_bash(bash, state).await,
            Self::Other(root) => Sandbox::in_image(root.path()).await,
        }
    }
}

fn image(shell: &Path) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    for directory in ["bin", "proc", "tmp", "state", "dev", "usr"] {
        std::fs::create_dir(path(directory)).unwrap();
    }
    for (from, to) in [
        (Path::new(agent()), "hutch-agent"),
        (Path::new("/bin/busybox"), "bin/busybox"),
        (shell, "bin/sh"),
    ] {
        std::fs::copy(from, path(to)).unwrap();
    }
    copy_libraries(Path::new("/bin/busybox"), root.path());
    copy_libraries(shell, root.path());
    for name in [
        "cat", "true", "sleep", "seq", "env", "mkdir", "rmdir", "rm", "ls", "id", "mkfifo",
    ] {
        symlink("busybox", path("bin").join(name)).unwrap();
    }
    // The tests only write to it.
    std::fs::write(path("dev/null"), "").unwrap();
    root
}
