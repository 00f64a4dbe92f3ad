//! The namespaces that are served beside the facade's own: each has its routes, and
//! work of its own behind them, made when it is first asked for. There are only so
//! many; one that nobody uses makes way for another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::visit::Refusal;

/// Makes the routes over a namespace, and what ends the work behind them when it is
/// dropped; or says why there are none.
pub type Make = Box<dyn Fn(&str) -> Result<(Router, DropGuard), String> + Send + Sync>;

/// The namespaces.
pub struct Namespaces {
    make: Make,
    most: usize,
    served: Mutex<HashMap<String, (Instant, Arc<Served>)>>,
}

/// A namespace that is served, for as long as somebody has it.
pub struct Served {
    /// The routes over it.
    pub routes: Router,
    _work: DropGuard,
}

impl Namespaces {
    /// None yet, and at most so many.
    pub fn new(make: Make, most: usize) -> Self {
        Self {
            make,
            most,
            served: Mutex::default(),
        }
    }

    /// The namespace of that name, for a request that holds it until it is over.
    pub fn serve(&self, name: &str) -> Result<Arc<Served>, Refusal> {
        let mut all = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((used, served)) = all.get_mut(name) {
            *used = Instant::now();
            return Ok(served.clone());
        }
        if all.len() >= self.most {
            let idle = all.iter().filter(|(_, (_, it))| Arc::strong_count(it) == 1);
            let longest = idle.min_by_key(|(_, (used, _))| *used);
            let longest = longest.map(|(name, _)| name.clone());
            let busy = Refusal::Busy("too many namespaces are in use");
            all.remove(&longest.ok_or(busy)?);
        }
        let (routes, work) = (self.make)(name).map_err(Refusal::Forbidden)?;
        let served = Arc::new(Served {
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

    /// The work of each namespace as it was made.
    type Works = Arc<Mutex<Vec<(String, CancellationToken)>>>;

    /// Two places, and what is made for them.
    fn two() -> (Namespaces, Works) {
        let made = Arc::new(Mutex::new(Vec::new()));
        let list = made.clone();
        let make = move |name: &str| {
            let work = CancellationToken::new();
            list.lock().unwrap().push((name.to_owned(), work.clone()));
            Ok((Router::new(), work.drop_guard()))
        };
        (Namespaces::new(Box::new(make), 2), made)
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_was_idle_for_longest_makes_way_and_its_work_ends() {
        let (namespaces, made) = two();
        for name in ["a", "b", "a", "c"] {
            assert!(namespaces.serve(name).is_ok());
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        let made = made.lock().unwrap();
        let state =
            |(name, work): &(String, CancellationToken)| (name.clone(), work.is_cancelled());
        let states: Vec<_> = made.iter().map(state).collect();
        let state = |name: &str, ended| (name.to_owned(), ended);
        assert_eq!(
            states,
            [state("a", false), state("b", true), state("c", false)]
        );
    }

    #[tokio::test]
    async fn one_in_use_makes_way_for_nobody() {
        let (namespaces, _) = two();
        let held = ["a", "b"].map(|name| namespaces.serve(name).ok());
        assert!(matches!(namespaces.serve("c"), Err(Refusal::Busy(_))));
        assert!(namespaces.serve("a").is_ok());
        drop(held);
        assert!(namespaces.serve("c").is_ok());
    }
}
