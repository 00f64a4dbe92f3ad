//! Namespaces other than the facade's own. Each has its own routes and its own
//! background work, created at the first request. Their number is limited: the one
//! unused for longest is removed for a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::context::Refusal;

/// Creates the routes of a namespace and a guard that ends its background work when it is
/// dropped. The error is the text for the client.
pub type CreateRoutes = Box<dyn Fn(&str) -> Result<(Router, DropGuard), String> + Send + Sync>;

pub struct Namespaces {
    create: CreateRoutes,
    max: usize,
    /// By name, with the time of the last request.
    served: Mutex<HashMap<String, (Instant, Arc<ServedNamespace>)>>,
}

/// A namespace with its routes. Requests in progress hold it, so it is not removed.
pub struct ServedNamespace {
    pub routes: Router,
    _work: DropGuard,
}

impl Namespaces {
    /// Serves at most `max` namespaces.
    pub fn new(create: CreateRoutes, max: usize) -> Self {
        Self {
            create,
            max,
            served: Mutex::default(),
        }
    }

    /// The namespace `name`, created if needed. The request holds it until it is over.
    ///
    /// # Errors
    /// If all namespaces are in use, or if this one is not served.
    pub fn serve(&self, name: &str) -> Result<Arc<ServedNamespace>, Refusal> {
        let mut all = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((used, served)) = all.get_mut(name) {
            *used = Instant::now();
            return Ok(served.clone());
        }
        if all.len() >= self.max {
            let idle = all.iter().filter(|(_, (_, it))| Arc::strong_count(it) == 1);
            let oldest = idle.min_by_key(|(_, (used, _))| *used);
            let oldest = oldest.map(|(name, _)| name.clone());
            let busy = Refusal::Busy("too many namespaces are in use");
            all.remove(&oldest.ok_or(busy)?);
        }
        let (routes, work) = (self.create)(name).map_err(Refusal::Forbidden)?;
        let served = Arc::new(ServedNamespace {
            routes,
            _work: work,
        });
        all.insert(name.to_owned(), (Instant::now(), served.clone()));
        Ok(served)
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// The work of each namespace in the order of creation.
    type Works = Arc<Mutex<Vec<(String, CancellationToken)>>>;

    /// At most two namespaces, and a record of those created.
    fn two() -> (Namespaces, Works) {
        let created = Arc::new(Mutex::new(Vec::new()));
        let list = created.clone();
        let create = move |name: &str| {
            let work = CancellationToken::new();
            list.lock().unwrap().push((name.to_owned(), work.clone()));
            Ok((Router::new(), work.drop_guard()))
        };
        (Namespaces::new(Box::new(create), 2), created)
    }

    #[tokio::test(start_paused = true)]
    async fn the_namespace_unused_for_longest_is_removed_and_its_work_ends() {
        let (namespaces, created) = two();
        for name in ["a", "b", "a", "c"] {
            assert!(namespaces.serve(name).is_ok());
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        let created = created.lock().unwrap();
        let state =
            |(name, work): &(String, CancellationToken)| (name.clone(), work.is_cancelled());
        let states: Vec<_> = created.iter().map(state).collect();
        let state = |name: &str, ended| (name.to_owned(), ended);
        assert_eq!(
            states,
            [state("a", false), state("b", true), state("c", false)]
        );
    }

    #[tokio::test]
    async fn a_namespace_in_use_is_not_removed() {
        let (namespaces, _) = two();
        let held = ["a", "b"].map(|name| namespaces.serve(name).ok());
        assert!(matches!(namespaces.serve("c"), Err(Refusal::Busy(_))));
        assert!(namespaces.serve("a").is_ok());
        drop(held);
        assert!(namespaces.serve("c").is_ok());
    }
}
