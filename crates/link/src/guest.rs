//! The channel to the agent of a pod that somebody else made. Its container needs
//! a shell, by which the agent is found; where it is not there, its bytes are sent
//! over one exec, to the first of a few folders that nobody but the container's
//! user can write to. What is brought is named after its content, so that an agent
//! of another release is no obstacle. Nothing secret goes this way. What the
//! container says is bounded, and is believed of itself alone; an exec goes by the
//! pod's name, so it is looked before each whether that is still the pod that was
//! labelled.

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
use super::socket::{self, EndingCell, Exit};
use hutch_core::interfaces::PodRef;
use hutch_core::names;

const FIND: &str = include_str!("guest_find.sh");
const BRING: &str = include_str!("guest_bring.sh");
/// Exit codes of these scripts: there is no agent; there cannot be one.
const NOT_THERE: i32 = 69;
const CANNOT: i32 = 70;

/// How long it may take to open the channel, with bringing the agent.
const OPEN: Duration = Duration::from_secs(25);
/// How long a stream that has ended may take to say how.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The agent's binary, as this process has it; read when it is first needed.
pub struct Binary {
    named: Option<PathBuf>,
    read: OnceCell<Program>,
}

/// A program to be brought.
struct Program {
    name: String,
    bytes: Bytes,
    /// As `uname -m` has it; nothing where that is not known.
    machine: &'static str,
}

impl Binary {
    /// The binary at that path; else `hutch-agent` beside this program, else
    /// `/hutch-agent`.
    pub fn new(named: Option<PathBuf>) -> Self {
        Self {
            named,
            read: OnceCell::new(),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        if let Some(named) = &self.named {
            return Some(named.clone());
        }
        let beside = std::env::current_exe().ok()?.with_file_name("hutch-agent");
        let usual = [beside, PathBuf::from("/hutch-agent")];
        usual.into_iter().find(|path| path.is_file())
    }

    async fn program(&self) -> Result<&Program, OpenError> {
        let cannot = |text: String| OpenError::NoAgent(text);
        self.read
            .get_or_try_init(async || {
                let missing =
                    "this service has no agent to bring: set --agent-binary to hutch-agent";
                let path = self.path().ok_or_else(|| cannot(missing.to_owned()))?;
                let read = tokio::task::spawn_blocking(move || Program::read(&path));
                let read = read.await.map_err(|error| cannot(error.to_string()))?;
                read.map_err(cannot)
            })
            .await
    }
}

impl Program {
    fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path)
            .map_err(|error| format!("--agent-binary {}: {error}", path.display()))?;
        // ELF's e_machine, in the byte order of all machines that matter here.
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

/// Opens the channel to the pod's agent, which is brought and started where it is
/// missing.
///
/// # Errors
/// See [`OpenError`]; all but `NoAgent` may be repeated.
pub async fn open(client: &Client, pod: &PodRef, binary: &Binary) -> Result<Agent, OpenError> {
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

/// Opens the channel to an agent that was there before, and brings none.
///
/// # Errors
/// See [`OpenError`]; `Gone` also where the container has no agent any more.
pub async fn reopen(client: &Client, pod: &PodRef, binary: &Binary) -> Result<Agent, OpenError> {
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
    timeout(OPEN, opening)
        .await
        .unwrap_or_else(|_| Err(OpenError::Hello(format!("no answer within {OPEN:?}"))))
}

/// That the pod of this name still is the one that was labelled. Pods are listed,
/// because the facade may not get them.
async fn verify(client: &Client, pod: &PodRef) -> Result<(), OpenError> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    let named = ListParams::default().fields(&format!("metadata.name={}", pod.name));
    let there = api.list_metadata(&named).await.map_err(OpenError::Exec)?;
    let same = |uid: Option<&String>| uid == Some(&pod.uid);
    match there.items.iter().any(|it| same(it.metadata.uid.as_ref())) {
        true => Ok(()),
        false => Err(OpenError::Gone),
    }
}

/// The channel; none where the agent is not there.
async fn connect(
    client: &Client,
    pod: &PodRef,
    program: &Program,
) -> Result<Option<Agent>, OpenError> {
    let command = ["sh", "-c", FIND, "hutch", &program.name];
    let socket = socket::exec(client, pod, &command).await;
    let socket = socket.map_err(OpenError::Exec)?;
    let ending = socket.ending();
    match agent::greet(socket).await {
        Ok(agent) => Ok(Some(agent)),
        Err(OpenError::Hello(text)) => match last_word(&ending).await {
            Some(exit) if exit.code == Some(NOT_THERE) => Ok(None),
            Some(exit) => Err(refusal(&exit)),
            None => Err(OpenError::Hello(text)),
        },
        Err(OpenError::Protocol { version, .. }) => {
            let text = format!("the agent {version} that runs there is another release's");
            Err(OpenError::NoAgent(text + ": restart the container"))
        }
        Err(error) => Err(error),
    }
}

/// Sends the agent.
async fn bring(client: &Client, pod: &PodRef, program: &Program) -> Result<(), OpenError> {
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
        // Not before there is a place for them: bytes that nobody takes would keep
        // the script's end from being told.
        socket.read_u8().await?;
        // The script counts them, so their own end need not be told.
        socket.write_all(&program.bytes).await?;
        socket.flush().await?;
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
    };
    // A failure has its reason in the ending.
    let _ = send.await;
    match last_word(&ending).await {
        Some(exit) if exit.code == Some(0) => Ok(()),
        Some(exit) => Err(refusal(&exit)),
        None => {
            let closed = || "the stream was closed".to_owned();
            let why = ending
                .get()
                .map_or_else(closed, |ending| ending.to_string());
            Err(OpenError::Hello(why))
        }
    }
}

async fn last_word(ending: &EndingCell) -> Option<Exit> {
    timeout(LAST_WORD, ending.exit()).await.ok().flatten()
}

/// What a script's end means.
fn refusal(exit: &Exit) -> OpenError {
    let no_shell = ["executable file not found", "no such file or directory"];
    match exit.code {
        Some(CANNOT) => OpenError::NoAgent(exit.said.clone()),
        // The runtime's words for it end like those for a missing shell.
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
    async fn a_binary_that_is_not_there_is_told_by_the_setting_that_names_it() {
        let binary = Binary::new(Some("/no/such".into()));
        let error = binary.program().await.err().unwrap().to_string();
        assert!(error.contains("--agent-binary /no/such: "), "{error}");
    }

    #[test]
    fn the_end_of_a_script_is_told_from_that_of_a_container_without_a_shell() {
        let exit = |code, message: &str| Exit {
            code,
            message: message.into(),
            said: "because".into(),
        };
        let text = |exit| match refusal(&exit) {
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
        let told = text(exit(None, runtime)).unwrap();
        assert!(told.contains("working directory is gone"), "{told}");
    }

    #[test]
    fn a_tool_that_the_image_lacks_is_named() {
        let tools = ["cat", "chmod", "head", "mkdir", "mv", "rm", "wc"];
        for missing in tools {
            let folder = tempfile::tempdir().unwrap();
            for tool in tools.iter().filter(|tool| **tool != missing) {
                let there = ["/bin", "/usr/bin"].map(|bin| Path::new(bin).join(tool));
                let there = there.iter().find(|path| path.exists()).unwrap();
                std::os::unix::fs::symlink(there, folder.path().join(tool)).unwrap();
            }
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", BRING, "hutch", "agent", "1", ""])
                .env("PATH", folder.path())
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(CANNOT), "{missing}: {said}");
            assert!(said.contains(&format!("no {missing}:")), "{said}");
        }
    }
}
