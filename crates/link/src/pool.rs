//! One channel per pod, opened by whoever needs it first and shared by all.
//! Channels that nobody used for a while are closed, and the least recently
//! used goes when there are too many: an open channel costs its node about
//! 1.5 MB.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use hutch_wire::v1::ExecInput;
use kube::Client;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};

use super::agent::{self, Agent, OpenError};
use super::execution::{self, Execution, Interrupted};
use super::guest;
use hutch_core::agent::AgentError;
use hutch_core::exec::{ExecOutcome, ExecRequest};
use hutch_core::interfaces::{Activity, Commands, PodRef};
use hutch_telemetry::{measured, operation};

/// How long a command that runs on without us is looked for.
const REATTACH: Duration = Duration::from_secs(25);
const REATTACH_EVERY: Duration = Duration::from_millis(250);
/// How long others may be opening a channel: longer than one attempt of theirs.
const OTHERS: Duration = Duration::from_secs(30);

/// Bounds of the pool.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Open channels at most; the least recently used is closed for a new one.
    pub channels: usize,
    /// A channel is closed when nobody used it for this long.
    pub idle: Duration,
    /// The agent's binary for pods of others; unset: where it usually is.
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
    binary: guest::Binary,
    slots: Mutex<HashMap<PodRef, Arc<Slot>>>,
}

/// The place of one pod's channel. The lock is held while it is opened, so that
/// a pod is never dialled twice at once.
pub(super) struct Slot {
    channel: AsyncMutex<Channel>,
    used: Mutex<Instant>,
}

#[derive(Default)]
struct Channel {
    agent: Option<Agent>,
    /// When the last attempt to open it failed, and why.
    failed: Option<(Instant, Arc<OpenError>)>,
}

/// Whether an agent may be brought to where there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Bring,
    Tell,
}

impl Pool {
    /// A pool without channels. `client` must not repeat failed requests.
    pub fn new(client: Client, settings: PoolSettings) -> Arc<Self> {
        Arc::new(Self {
            client,
            binary: guest::Binary::new(settings.agent.clone()),
            settings,
            slots: Mutex::default(),
        })
    }

    /// Closes idle channels for as long as it is polled.
    pub async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.settings.idle.min(Duration::from_secs(30)));
        loop {
            ticks.tick().await;
            let idle = self.settings.idle;
            self.slots()
                .retain(|_, slot| slot.in_use() || slot.idle() < idle);
        }
    }

    /// How many pods there is a channel to, or one being opened.
    pub fn len(&self) -> usize {
        self.slots().len()
    }

    /// Whether there is no channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<PodRef, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, pod: &PodRef) -> Arc<Slot> {
        let mut slots = self.slots();
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
            channel: AsyncMutex::default(),
            used: Mutex::new(Instant::now()),
        });
        slots.insert(pod.clone(), slot.clone());
        slot
    }

    /// The open channel to a pod, opened now where there is none. Who waited while
    /// somebody else tried in vain takes that answer: many who come at once wait for
    /// one attempt, not for one after the other.
    async fn channel(
        &self,
        pod: &PodRef,
        slot: &Slot,
        missing: Missing,
    ) -> Result<Agent, Arc<OpenError>> {
        let came = Instant::now();
        let Ok(mut channel) = timeout(OTHERS, slot.channel.lock()).await else {
            let text = format!("others have been opening the channel for {OTHERS:?}");
            return Err(Arc::new(OpenError::Hello(text)));
        };
        if let Some(agent) = channel.agent.as_ref().filter(|agent| agent.is_open()) {
            return Ok(agent.clone());
        }
        if let Some((_, error)) = channel.failed.as_ref().filter(|(at, _)| *at >= came) {
            return Err(error.clone());
        }
        let opening = async {
            match (pod.guest, missing) {
                (true, Missing::Bring) => guest::open(&self.client, pod, &self.binary).await,
                (true, Missing::Tell) => guest::reopen(&self.client, pod, &self.binary).await,
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

    /// The agent of a pod, and what keeps its channel open.
    pub(super) async fn agent(&self, pod: &PodRef) -> Result<(Arc<Slot>, Agent), AgentError> {
        let slot = self.slot(pod);
        match self.channel(pod, &slot, Missing::Bring).await {
            Ok(agent) => Ok((slot, agent)),
            Err(error) => Err(match &*error {
                OpenError::NoAgent(why) => AgentError::NoAgent(why.clone()),
                error => AgentError::Unreachable(error.to_string()),
            }),
        }
    }

    async fn run(&self, pod: &PodRef, request: ExecRequest) -> Result<ExecOutcome, AgentError> {
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
        let give_up = Instant::now() + REATTACH;
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

    /// Attaches to an execution after its channel was lost. An agent that is not
    /// there does not have it.
    async fn resume(
        &self,
        pod: &PodRef,
        slot: &Slot,
        instance: &str,
        execution: &mut Execution,
        why: String,
    ) -> Result<hutch_wire::v1::Exit, Interrupted> {
        let agent = match self.channel(pod, slot, Missing::Tell).await {
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
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    /// Somebody besides the pool holds it.
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
        measured(span, self.run(pod, request)).boxed()
    }

    fn activity<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Option<Activity>> {
        async move {
            let slot = self.slots().get(pod).cloned()?;
            // One that is being opened cannot tell yet.
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
