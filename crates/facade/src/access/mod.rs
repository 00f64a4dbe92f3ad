//! Access to the routes. [`authenticate`] finds out who sent a request and passes it to
//! the routes of that principal's namespace. Each contract then authorizes the request
//! or refuses it in its own format. Every route but `/health` is behind [`authorize`].

mod ambiguous_headers;
mod audit;
mod auth;
mod bodies;
mod context;
mod credentials;
mod cross_site;
mod limits;
mod memory;
mod namespaces;
mod response_memory;

pub use audit::audit;
pub use auth::{AuthLayer, AuthSettings, authenticate};
pub use context::{Contract, RequestContext, authorize};
pub use response_memory::reserve_response;
