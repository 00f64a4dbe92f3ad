//! Who may enter, and how far: the gate asks who a request is from and hands it to
//! the routes of that principal's namespace; each contract then admits it, or
//! refuses it in its own words. A route that nobody admitted to answers nobody.

mod answers;
mod audit;
mod bodies;
mod browsers;
mod credentials;
mod gate;
mod heads;
mod limits;
mod namespaces;
mod room;
mod visit;

pub use answers::fit;
pub use audit::audit;
pub use gate::{Gate, GateSettings, enter};
pub use visit::{Contract, Visit, admit};
