//! The channel to an attached pod, which may have no agent yet.
//!
//! The container needs a shell. A script (`attached_find.sh`) looks for the agent and runs
//! `hutch-agent connect --start`. If there is no agent, one exec with another script
//! (`attached_bring.sh`) copies its bytes into the first suitable one of a few directories
//! that only the container's user can write to. The file is named after its content, so
//! agents of several releases can exist side by side.
//!
//! No secret is sent. The container's output is bounded, and trusted only as a
//! statement about the container itself. An exec names a pod, not a UID, so before each
//! one a list request checks that the name still belongs to the labelled pod.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::agent::{self, Agent, OpenError};
use super::socket::{self, EndingCell, ProcessExit};
use hutch_core::interfaces::PodRef;
use hutch_core::names;

const FIND: &str = include_str!("attached_find.sh");
const BRING: &str = include_str!("attached_bring.sh");
/// Exit code of `FIND`: the container has no agent.
const EXIT_NO_AGENT: i32 = 69;
/// Exit code of `BRING`: no agent can run in the container.
const EXIT_UNSUITABLE: i32 = 70;

/// Time to open the channel, including the copy of the agent.
const OPEN_TIMEOUT: Duration = Duration::from_secs(25);
/// Time for the exit status to arrive after a stream has failed.
const EXIT_STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// The agent's binary on this machine. It is read when it is first needed.
pub struct AgentBinary {
    /// The path from the settings.
    configured: Option<PathBuf>,
    read: OnceCell<AgentProgram>,
}

/// The agent to copy.
struct AgentProgram {
    /// File name, with a digest of the content.
    name: String,
    bytes: Bytes,
    /// The architecture as `uname -m` prints it; empty if it is not known.
    machine: &'static str,
}

impl AgentBinary {
    /// The binary at `configured`; if `None`, `hutch-agent` beside this program, else
    /// `/hutch-agent`.
    pub fn new(configured: Option<PathBuf>) -> Self {
        Self {
            configured,
            read: OnceCell::new(),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        if let Some(configured) = &self.configured {
            return Some(configured.clone());
        }
        let beside = std::env::current_exe().ok()?.with_file_name("hutch-agent");
        let usual = [beside, PathBuf::from("/hutch-agent")];
        usual.into_iter().find(|path| path.is_file())
    }

    async fn program(&self) -> Result<&AgentProgram, OpenError> {
        let cannot = |text: String| OpenError::NoAgent(text);
        self.read
            .get_or_try_init(async || {
                let missing =
                    "this service has no agent to bring: set --agent-binary to hutch-agent";
                let path = self.path().ok_or_else(|| cannot(missing.to_owned()))?;
                let read = tokio::task::spawn_blocking(move || AgentProgram::read(&path));
                let read = read.await.map_err(|error| cannot(error.to_string()))?;
                read.map_err(cannot)
            })
            .await
    }
}

impl AgentProgram {
    fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path)
            .map_err(|error| format!("--agent-binary {}: {error}", path.display()))?;
        // ELF's e_machine, little-endian: all supported machines are.
        let machine = match bytes.get(18..20) {
            Some([62, 0]) => "x86_64",
            Some([183, 0]) => "aarch64",
            _ => "",
        };
        Ok(Self {
            name: format!("hutch-agent-{}", names::digest(&bytes, 16)),
            bytes: bytes.into(),
            machine,
        })
    }
}

/// Opens the channel to the pod's agent. Copies and starts the agent if it is missing.
///
/// # Errors
/// See [`OpenError`]. After all but `NoAgent` the call may be repeated.
pub async fn open(client: &Client, pod: &PodRef, binary: &AgentBinary) -> Result<Agent, OpenError> {
    within(async {
        let program = binary.program().await?;
        verify(client, pod).await?;
        if let Some(agent) = connect(client, pod, program).await? {
            return Ok(agent);
        }
        verify(client, pod).await?;
        bring(client, pod, program).await?;
        tracing::info!(
            pod = pod.name,
            container = pod.container,
            "brought the agent"
        );
        let agent = connect(client, pod, program).await?;
        agent.ok_or_else(|| OpenError::Hello("it was removed at once".to_owned()))
    })
    .await
}

/// Opens the channel to an agent that exists already. Never copies one.
///
/// # Errors
/// See [`OpenError`]. `Gone` also means that the container no longer has an agent.
pub async fn reopen(
    client: &Client,
    pod: &PodRef,
    binary: &AgentBinary,
) -> Result<Agent, OpenError> {
    within(async {
        let program = binary.program().await?;
        verify(client, pod).await?;
        let agent = connect(client, pod, program).await?;
        agent.ok_or(OpenError::Gone)
    })
    .await
}

async fn within(
    opening: impl Future<Output = Result<Agent, OpenError>>,
) -> Result<Agent, OpenError> {
    timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
        Err(OpenError::Hello(format!(
            "no answer within {OPEN_TIMEOUT:?}"
        )))
    })
}

/// Checks that the pod of this name is still the labelled one. It lists, because the
/// facade has no permission to get a pod.
async fn verify(client: &Client, pod: &PodRef) -> Result<(), OpenError> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    let named = ListParams::default().fields(&format!("metadata.name={}", pod.name));
    let there = api.list_metadata(&named).await.map_err(OpenError::Exec)?;
    let same = |uid: Option<&String>| uid == Some(&pod.uid);
    if there.items.iter().any(|it| same(it.metadata.uid.as_ref())) {
        Ok(())
    } else {
        Err(OpenError::Gone)
    }
}

/// Opens the channel; `None` if the container has no agent.
async fn connect(
    client: &Client,
    pod: &PodRef,
    program: &AgentProgram,
) -> Result<Option<Agent>, OpenError> {
    let command = ["sh", "-c", FIND, "hutch", &program.name];
    let socket = socket::exec(client, pod, &command).await;
    let socket = socket.map_err(OpenError::Exec)?;
    let ending = socket.ending();
    match agent::greet(socket).await {
        Ok(agent) => Ok(Some(agent)),
        Err(OpenError::Hello(text)) => match exit_status(&ending).await {
            Some(exit) if exit.code == Some(EXIT_NO_AGENT) => Ok(None),
            Some(exit) => Err(script_error(&exit)),
            None => Err(OpenError::Hello(text)),
        },
        Err(OpenError::Protocol { version, .. }) => {
            let text = format!("the agent {version} that runs there is another release's");
            Err(OpenError::NoAgent(text + ": restart the container"))
        }
        Err(error) => Err(error),
    }
}

/// Copies the agent into the container.
async fn bring(client: &Client, pod: &PodRef, program: &AgentProgram) -> Result<(), OpenError> {
    let size = program.bytes.len().to_string();
    let command = [
        "sh",
        "-c",
        BRING,
        "hutch",
        &program.name,
        &size,
        program.machine,
    ];
    let socket = socket::exec(client, pod, &command).await;
    let mut socket = socket.map_err(OpenError::Exec)?;
    let ending = socket.ending();
    let send = async {
        // Wait until the script has a place for the bytes. If it ended without reading
        // them, its exit status would not arrive.
        socket.read_u8().await?;
        // The script counts the bytes, so it needs no end-of-file.
        socket.write_all(&program.bytes).await?;
        socket.flush().await?;
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
    };
    // `ending` has the reason of a failure.
    let _ = send.await;
    match exit_status(&ending).await {
        Some(exit) if exit.code == Some(0) => Ok(()),
        Some(exit) => Err(script_error(&exit)),
        None => {
            let closed = || "the stream was closed".to_owned();
            let why = ending
                .get()
                .map_or_else(closed, |ending| ending.to_string());
            Err(OpenError::Hello(why))
        }
    }
}

async fn exit_status(ending: &EndingCell) -> Option<ProcessExit> {
    timeout(EXIT_STATUS_TIMEOUT, ending.exit())
        .await
        .ok()
        .flatten()
}

/// The error for a script that failed.
fn script_error(exit: &ProcessExit) -> OpenError {
    let no_shell = ["executable file not found", "no such file or directory"];
    match exit.code {
        Some(EXIT_UNSUITABLE) => OpenError::NoAgent(exit.stderr.clone()),
        // Check this first: the container runtime's text ends like that for a missing
        // shell.
        None if exit.message.contains("chdir") => {
            let text = "its working directory is gone: make it again, or restart the container";
            OpenError::NoAgent(text.to_owned())
        }
        None if no_shell.iter().any(|text| exit.message.contains(text)) => {
            let text = "it has no shell: use an image with sh, or leave container_name empty, \
                        and Hutch makes a sandbox";
            OpenError::NoAgent(text.to_owned())
        }
        _ => OpenError::Hello(exit.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_error_for_a_missing_binary_names_the_setting() {
        let binary = AgentBinary::new(Some("/no/such".into()));
        let error = binary.program().await.err().unwrap().to_string();
        assert!(error.contains("--agent-binary /no/such: "), "{error}");
    }

    #[test]
    fn a_failed_script_and_a_missing_shell_are_different_errors() {
        let exit = |code, message: &str| ProcessExit {
            code,
            message: message.into(),
            stderr: "because".into(),
        };
        let text = |exit| match script_error(&exit) {
            OpenError::NoAgent(text) => Some(text),
            _ => None,
        };
        assert_eq!(text(exit(Some(70), "x")).as_deref(), Some("because"));
        assert_eq!(text(exit(Some(71), "x")), None);
        let runtime = "exec: \"sh\": executable file not found in $PATH";
        assert!(text(exit(None, runtime)).unwrap().contains("image with sh"));
        assert_eq!(text(exit(None, "container is not running")), None);
        let runtime =
            "chdir to cwd (\"/srv\") set in config.json failed: no such file or directory";
        let error = text(exit(None, runtime)).unwrap();
        assert!(error.contains("working directory is gone"), "{error}");
    }

    #[test]
    fn the_error_names_a_tool_that_the_image_lacks() {
        let tools = ["cat", "chmod", "head", "mkdir", "mv", "rm", "wc"];
        for missing in tools {
            let directory = tempfile::tempdir().unwrap();
            for tool in tools.iter().filter(|tool| **tool != missing) {
                let there = ["/bin", "/usr/bin"].map(|bin| Path::new(bin).join(tool));
                let there = there.iter().find(|path| path.exists()).unwrap();
                std::os::unix::fs::symlink(there, directory.path().join(tool)).unwrap();
            }
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", BRING, "hutch", "agent", "1", ""])
                .env("PATH", directory.path())
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(EXIT_UNSUITABLE),
                "{missing}: {said}"
            );
            assert!(said.contains(&format!("no {missing}:")), "{said}");
        }
    }
}
