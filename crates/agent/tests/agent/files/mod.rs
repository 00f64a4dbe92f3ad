//! Files of the sandbox through the protocol.

mod bytes;
mod changes;
mod paths;
pub mod random;
mod scene;
mod whole;

use tonic::{Code, Status};

use scene::{Scene, input};

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.expect_err("it should have failed").code()
}
