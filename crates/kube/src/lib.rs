//! All access to the API server: clients, caches, writes, events and leader election.
//!
//! | module | contents |
//! | --- | --- |
//! | `client` | builds a client without retries |
//! | `watches` | one watch per kind, which fills a cache and sends triggers |
//! | `guarded`, `unreadable` | objects that do not decode |
//! | `caches`, `node` | the caches of each role |
//! | `trim` | removes unused fields from cached objects |
//! | `apply`, `volumes` | writes with a deadline and a check of the leadership |
//! | `events` | events about sandboxes |
//! | `lease` | leader election |

pub mod apply;
pub mod caches;
pub mod client;
pub mod events;
pub mod guarded;
pub mod lease;
pub mod node;
mod trim;
mod unreadable;
mod volumes;
pub mod watches;
