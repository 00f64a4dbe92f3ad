//! Handles the attached client's messages: acknowledgements and standard input.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hutch_wire::limits::CHUNK;
use hutch_wire::v1::ExecInput;
use hutch_wire::v1::exec_input::Input;
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

use super::{Execution, Executions};

/// Longest wait, after the exit was sent, for the client to acknowledge it.
const FINAL_ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Handles the inputs of client `number` until its stream is over.
///
/// The result is dropped as soon as the client acknowledges the exit. A client that was
/// cut off at that moment may attach again for it.
pub async fn listen(
    execution: Arc<Execution>,
    number: u64,
    inputs: Streaming<ExecInput>,
    over: oneshot::Receiver<()>,
    executions: Arc<Executions>,
) {
    let mut end = pin!(follow(&execution, number, inputs, &executions));
    tokio::select! {
        biased;
        _ = over => {
            if execution.told(number) {
                let _ = tokio::time::timeout(FINAL_ACK_TIMEOUT, end).await;
            }
        }
        end = &mut end => if let Err(fault) = end {
            execution.fail_client(number, fault);
        }
    }
}

/// Reads to the end of the inputs, or until the client acknowledges the exit.
async fn follow(
    execution: &Arc<Execution>,
    number: u64,
    mut inputs: Streaming<ExecInput>,
    executions: &Executions,
) -> Result<(), Status> {
    while let Some(message) = inputs.message().await? {
        match message.input {
            Some(Input::Ack(ack)) => {
                execution.acknowledge(number, [ack.stdout, ack.stderr]);
                if ack.exit && execution.told(number) {
                    executions.forget(execution);
                    return Ok(());
                }
            }
            Some(Input::Stdin(bytes)) => match &execution.stdin {
                Some(_) if bytes.len() > CHUNK => {
                    return Err(Status::invalid_argument(
                        "a piece of input is larger than 64 KiB",
                    ));
                }
                Some(stdin) => stdin.push(bytes).await,
                None => {
                    let text = "this execution was started without standard input";
                    return Err(Status::invalid_argument(text));
                }
            },
            Some(Input::StdinEnd(_)) => {
                if let Some(stdin) = &execution.stdin {
                    stdin.end();
                }
            }
            Some(Input::Start(_) | Input::Attach(_)) => {
                let text = "start and attach can only be the first input";
                return Err(Status::invalid_argument(text));
            }
            None => {}
        }
    }
    Ok(())
}
