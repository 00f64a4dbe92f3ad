//! The table of operations from which each contract builds its router. The
//! `Method Not Allowed` texts and the comparison with `docs/openapi` read the same
//! table, so they cannot drift from the routes.

use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;

use hutch_service::Service;

pub type Handlers = MethodRouter<Arc<Service>>;

/// One method of one path, and its handler.
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    pub handler: Handlers,
}

/// Defines `OPERATIONS`, the pairs of method and path, and `operations()`, the same
/// list with the handlers.
macro_rules! operations {
    ($($method:ident $path:literal => $handler:path,)*) => {
        /// Method and path of every operation of this contract.
        pub const OPERATIONS: &[(&str, &str)] = &[$((stringify!($method), $path)),*];

        fn operations() -> Vec<crate::operations::Operation> {
            vec![$(crate::operations::Operation {
                method: stringify!($method),
                path: $path,
                handler: axum::routing::on(axum::routing::MethodFilter::$method, $handler),
            }),*]
        }
    };
}
pub(crate) use operations;

/// A router over `operations`. `refuse_others` adds the contract's response to all
/// other methods of a path; it gets the allowed methods in the order of the table.
pub fn router(
    operations: impl IntoIterator<Item = Operation>,
    refuse_others: fn(Handlers, String) -> Handlers,
) -> Router<Arc<Service>> {
    let add = |router: Router<_>, (path, allowed, handlers)| {
        router.route(path, refuse_others(handlers, allowed))
    };
    by_path(operations).into_iter().fold(Router::new(), add)
}

/// The paths, each with its allowed methods as text and their handlers. A path has to
/// be complete before it gets a fallback: axum cannot merge two that have one.
fn by_path(
    operations: impl IntoIterator<Item = Operation>,
) -> Vec<(&'static str, String, Handlers)> {
    let mut paths: Vec<(&str, String, Handlers)> = Vec::new();
    for operation in operations {
        let (method, path) = (operation.method, operation.path);
        match paths.iter_mut().find(|(known, ..)| *known == path) {
            Some((_, allowed, handlers)) => {
                *allowed = format!("{allowed}, {method}");
                *handlers = std::mem::take(handlers).merge(operation.handler);
            }
            None => paths.push((path, method.to_owned(), operation.handler)),
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn handler() {}

    operations! {
        DELETE "/a" => handler,
        GET "/b" => handler,
        POST "/a" => handler,
    }

    #[test]
    fn the_methods_of_a_path_are_listed_in_the_order_of_the_table() {
        let paths = by_path(operations());
        let allowed: Vec<_> = paths
            .iter()
            .map(|(path, allowed, _)| (*path, allowed.as_str()))
            .collect();
        assert_eq!(allowed, [("/a", "DELETE, POST"), ("/b", "GET")]);
        assert_eq!(OPERATIONS[1], ("GET", "/b"));
    }
}
