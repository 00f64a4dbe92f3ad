//! One channel per pod. The first request opens it and all later ones share it.
//!
//! An open channel costs its node about 1.5 MB. So unused channels are closed after a
//! while, and a new channel above the limit closes the least recently used one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use hutch_wire::v1::ExecInput;
use kube::Client;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::agent::{self, Agent, OpenError};
use super::attached;
use super::execution::{self, Execution, Interrupted};
use hutch_core::agent::AgentError;
use hutch_core::exec::{ExecOutcome, ExecRequest};
use hutch_core::interfaces::{Activity, Commands, PodRef};
use hutch_core::sync::Lock;
use hutch_telemetry::{measured, operation};

/// After the loss of a channel, the facade tries this long to attach to the command
/// again.
const REATTACH_TIMEOUT: Duration = Duration::from_secs(25);
const REATTACH_EVERY: Duration = Duration::from_millis(250);
/// The longest wait for another request that opens the same channel. It is longer than
/// one attempt.
const OTHER_OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Limits of the pool, and the agent for attached pods.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// The most open channels. A new one above that closes the least recently used.
    pub channels: usize,
    /// A channel that is unused for this long is closed.
    pub idle: Duration,
    /// The agent's binary for attached pods. If unset, `hutch-agent` beside this
    /// program, else `/hutch-agent`.
    pub agent: Option<PathBuf>,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            channels: 512,
            idle: Duration::from_secs(300),
            agent: None,
        }
    }
}

/// The channels of this process.
pub struct Pool {
    client: Client,
    settings: PoolSettings,
    binary: attached::AgentBinary,
    slots: Lock<HashMap<PodRef, Arc<Slot>>>,
}

/// The channel of one pod. The lock is held while it is opened, so that two requests
/// never open channels to the same pod at once.
pub(super) struct Slot {
    channel: Mutex<Channel>,
    last_used: Lock<Instant>,
}

#[derive(Default)]
struct Channel {
    agent: Option<Agent>,
    /// Time and error of the last failed attempt to open it.
    failed: Option<(Instant, Arc<OpenError>)>,
}

/// The reaction to an attached pod that has no agent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfMissing {
    /// Copy the agent into the pod.
    Bring,
    /// Fail with [`OpenError::Gone`].
    Fail,
}

impl Pool {
    /// An empty pool. `client` must not retry failed requests, because a retry could run
    /// a command twice.
    pub fn new(client: Client, settings: PoolSettings) -> Arc<Self> {
        Arc::new(Self {
            client,
            binary: attached::AgentBinary::new(settings.agent.clone()),
            settings,
            slots: Lock::default(),
        })
    }

    /// Closes unused channels. Runs for ever.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.settings.idle.min(Duration::from_secs(30)));
        loop {
            ticks.tick().await;
            let idle = self.settings.idle;
            self.slots
                .lock()
                .retain(|_, slot| slot.in_use() || slot.idle() < idle);
        }
    }

    /// The number of channels that are open or being opened.
    pub fn len(&self) -> usize {
        self.slots.lock().len()
    }

    /// True if no channel is open or being opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, pod: &PodRef) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(pod) {
            slot.touch();
            return slot.clone();
        }
        if slots.len() >= self.settings.channels {
            let oldest = slots
                .iter()
                .filter(|(_, slot)| !slot.in_use())
                .max_by_key(|(_, slot)| slot.idle())
                .map(|(pod, _)| pod.clone());
            if let Some(oldest) = oldest {
                slots.remove(&oldest);
            }
        }
        let slot = Arc::new(Slot {
            channel: Mutex::default(),
            last_used: Lock::new(Instant::now()),
        });
        slots.insert(pod.clone(), slot.clone());
        slot
    }

    /// The channel to a pod. Opens it if there is none. A request that waited for another
    /// one's failed attempt gets the same error: many simultaneous requests share one
    /// attempt instead of making one after the other.
    async fn channel(
        &self,
        pod: &PodRef,
        slot: &Slot,
        if_missing: IfMissing,
    ) -> Result<Agent, Arc<OpenError>> {
        let arrived = Instant::now();
        let Ok(mut channel) = timeout(OTHER_OPEN_TIMEOUT, slot.channel.lock()).await else {
            let text = format!("others have been opening the channel for {OTHER_OPEN_TIMEOUT:?}");
            return Err(Arc::new(OpenError::Hello(text)));
        };
        if let Some(agent) = channel.agent.as_ref().filter(|agent| agent.is_open()) {
            return Ok(agent.clone());
        }
        if let Some((_, error)) = channel.failed.as_ref().filter(|(at, _)| *at >= arrived) {
            return Err(error.clone());
        }
        let opening = async {
            match (pod.attached, if_missing) {
                (true, IfMissing::Bring) => attached::open(&self.client, pod, &self.binary).await,
                (true, IfMissing::Fail) => attached::reopen(&self.client, pod, &self.binary).await,
                (false, _) => agent::open(&self.client, pod).await,
            }
        };
        match measured(operation!("connect", pod = pod.name), opening).await {
            Ok(opened) => Ok(channel.agent.insert(opened).clone()),
            Err(error) => {
                let error = Arc::new(error);
                channel.agent = None;
                channel.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// The agent of a pod. The channel stays in the pool while the slot is held.
    pub(super) async fn agent(&self, pod: &PodRef) -> Result<(Arc<Slot>, Agent), AgentError> {
        let slot = self.slot(pod);
        match self.channel(pod, &slot, IfMissing::Bring).await {
            Ok(agent) => Ok((slot, agent)),
            Err(error) => Err(match &*error {
                OpenError::NoAgent(why) => AgentError::NoAgent(why.clone()),
                error => AgentError::Unreachable(error.to_string()),
            }),
        }
    }

    async fn execute(&self, pod: &PodRef, request: ExecRequest) -> Result<ExecOutcome, AgentError> {
        let (slot, agent) = self.agent(pod).await?;
        let (start, mut execution) = execution::begin(request);
        let mut interruption = match agent.exec(start).await {
            Ok((inputs, outputs)) => match execution.collect(&agent, &inputs, outputs).await {
                Ok(exit) => return Ok(execution.outcome(&exit)),
                Err(interrupted) => interrupted,
            },
            Err(status) => match execution.refusal(&status) {
                Some(error) => return Err(error),
                None => execution::interrupted(&agent, &status),
            },
        };
        let give_up = Instant::now() + REATTACH_TIMEOUT;
        loop {
            let why = match interruption {
                Interrupted::Channel(why) if Instant::now() < give_up => why,
                Interrupted::Channel(why) | Interrupted::Gone(why) => {
                    return Err(AgentError::Lost(why));
                }
            };
            tokio::time::sleep(REATTACH_EVERY).await;
            interruption = match self
                .resume(pod, &slot, agent.instance(), &mut execution, why)
                .await
            {
                Ok(exit) => return Ok(execution.outcome(&exit)),
                Err(interrupted) => interrupted,
            };
        }
    }

    /// Attaches to an execution after its channel was lost. It does not copy an agent
    /// into the pod, because a new agent would not have the execution.
    async fn resume(
        &self,
        pod: &PodRef,
        slot: &Slot,
        instance: &str,
        execution: &mut Execution,
        why: String,
    ) -> Result<hutch_wire::v1::Exit, Interrupted> {
        let agent = match self.channel(pod, slot, IfMissing::Fail).await {
            Ok(agent) => agent,
            Err(error) if error.gone() => {
                return Err(Interrupted::Gone(format!("{error}; before, {why}")));
            }
            Err(error) => return Err(Interrupted::Channel(error.to_string())),
        };
        if agent.instance() != instance {
            let gone = format!("the sandbox was restarted; before, {why}");
            return Err(Interrupted::Gone(gone));
        }
        let attach: ExecInput = execution.attach();
        match agent.exec(attach).await {
            Ok((inputs, outputs)) => execution.collect(&agent, &inputs, outputs).await,
            Err(status) => Err(execution::interrupted(&agent, &status)),
        }
    }
}

impl Slot {
    fn touch(&self) {
        *self.last_used.lock() = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.last_used.lock().elapsed()
    }

    /// True while somebody besides the pool holds the slot.
    fn in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl Commands for Pool {
    fn exec<'a>(
        &'a self,
        pod: &'a PodRef,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutcome, AgentError>> {
        let span = operation!("exec", pod = pod.name);
        measured(span, self.execute(pod, request)).boxed()
    }

    fn activity<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Option<Activity>> {
        async move {
            let slot = self.slots.lock().get(pod).cloned()?;
            // The lock is held while the channel is being opened.
            let agent = slot.channel.try_lock().ok()?.agent.clone()?;
            let reply = agent.activity().await.ok()?;
            Some(Activity {
                running: reply.running,
                background: reply.background,
                idle: Duration::from_millis(reply.idle_ms),
            })
        }
        .boxed()
    }
}
