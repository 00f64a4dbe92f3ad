//! What the attached client says: acknowledgements and standard input.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hutch_wire::limits::CHUNK;
use hutch_wire::v1::ExecInput;
use hutch_wire::v1::exec_input::Input;
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

use super::{Execution, Executions};

/// How long after the exit a client may take to say that it has it.
const CLOSING: Duration = Duration::from_secs(5);

/// Follows the inputs of the client with this number until its stream is over.
///
/// When a client says that it has the exit, the result is forgotten at once. One that
/// was cut off at that moment may come back for it.
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
                let _ = tokio::time::timeout(CLOSING, end).await;
            }
        }
        end = &mut end => if let Err(fault) = end {
            execution.fail_client(number, fault);
        }
    }
}

/// Reads to the end of the inputs, or to the word that the client has everything.
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
