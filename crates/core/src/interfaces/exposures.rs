//! Services and Ingresses in front of sandboxes.

use futures::future::BoxFuture;

use super::ResourceError;
use hutch_api::Sandbox;

/// The Services and Ingresses of sandboxes. A sandbox owns them.
pub trait Exposures: Send + Sync {
    /// Makes these ports of the sandbox's pod reachable. Returns the ports of the Service in
    /// the same order. A repeated call changes nothing.
    fn expose<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        ports: &'a [u16],
    ) -> BoxFuture<'a, Result<Vec<u16>, ResourceError>>;

    /// The UIDs of the sandboxes in that namespace that get the requests for `host`. A route
    /// that is not Hutch's counts with an empty UID.
    fn sandboxes_behind<'a>(
        &'a self,
        namespace: &'a str,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, ResourceError>>;

    /// Routes requests for `host` to a port of the sandbox's pod. This replaces the sandbox's
    /// earlier host.
    fn route<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<(), ResourceError>>;
}
