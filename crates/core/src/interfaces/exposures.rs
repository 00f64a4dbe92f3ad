//! Ways into a sandbox from outside.

use futures::future::BoxFuture;

use super::ResourceError;
use hutch_api::Sandbox;

/// Services and Ingresses that lead to sandboxes, and go with them.
pub trait Exposures: Send + Sync {
    /// Makes these ports of the sandbox's pod reachable, and returns the ports at
    /// which they are, in the same order. Can be repeated.
    fn expose<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        ports: &'a [u16],
    ) -> BoxFuture<'a, Result<Vec<u16>, ResourceError>>;

    /// The UIDs of the sandboxes in that namespace to which requests for `host`
    /// lead; an empty one for what is not Hutch's.
    fn sandboxes_behind<'a>(
        &'a self,
        namespace: &'a str,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, ResourceError>>;

    /// Leads requests for `host` to a port of the sandbox's pod, and those for
    /// another that was named before no longer.
    fn route<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<(), ResourceError>>;
}
