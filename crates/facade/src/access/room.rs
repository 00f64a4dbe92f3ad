//! Room in memory for what clients send and are sent: so many bytes in the process,
//! of which one namespace gets a part. What finds no room is refused at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::visit::Refusal;

/// Bytes are counted in pieces of this size.
const PIECE: u64 = 1024;
/// One namespace gets the whole divided by this.
const TENANTS: u64 = 4;
/// Namespaces that are remembered before those that hold nothing are forgotten.
const REMEMBERED: usize = 1024;
/// When to try again where something else has to go out first.
const SOON: Duration = Duration::from_secs(1);

/// The room of the process.
pub struct Rooms {
    whole: Pool,
    share: u32,
    shares: Mutex<HashMap<String, Pool>>,
}

#[derive(Clone)]
struct Pool {
    free: Arc<Semaphore>,
    pieces: u32,
}

/// The room that one request takes; dropping it gives it back.
pub struct Room {
    whole: Pool,
    share: Option<Pool>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    whole: Option<OwnedSemaphorePermit>,
    share: Option<OwnedSemaphorePermit>,
}

impl Rooms {
    /// So many bytes, and at least the largest request body, which a namespace can
    /// always have.
    pub fn new(bytes: u64, largest_body: u64) -> Self {
        Self {
            whole: Pool::of(pieces(bytes.max(largest_body))),
            share: pieces((bytes / TENANTS).max(largest_body)),
            shares: Mutex::default(),
        }
    }

    /// The room of a request about that namespace, or about nobody's in particular:
    /// none yet.
    pub fn room(&self, namespace: Option<&str>) -> Room {
        Room {
            whole: self.whole.clone(),
            share: namespace.map(|namespace| self.share_of(namespace)),
            held: Mutex::default(),
        }
    }

    fn share_of(&self, namespace: &str) -> Pool {
        let mut shares = lock(&self.shares);
        if let Some(share) = shares.get(namespace) {
            return share.clone();
        }
        if shares.len() >= REMEMBERED {
            shares.retain(|_, share| Arc::strong_count(&share.free) > 1);
        }
        let share = Pool::of(self.share);
        shares.insert(namespace.to_owned(), share.clone());
        share
    }
}

impl Room {
    /// Takes so many bytes, instead of what was held. What is larger than all that
    /// could be had takes all of it, and so goes alone.
    ///
    /// # Errors
    /// Where they are taken; then nothing is held.
    pub fn take(&self, bytes: u64) -> Result<(), Refusal> {
        let mut held = lock(&self.held);
        *held = Held::default();
        if bytes == 0 {
            return Ok(());
        }
        let mut taken = Held::default();
        if let Some(share) = &self.share {
            let text = "too many bytes at once in this namespace";
            let room = share.take(bytes);
            taken.share = Some(room.ok_or(Refusal::TooMany(text, SOON))?);
        }
        let busy = Refusal::Busy("too many bytes are being worked on, try again");
        taken.whole = Some(self.whole.take(bytes).ok_or(busy)?);
        *held = taken;
        Ok(())
    }

    /// Gives back what is held beyond so many bytes.
    pub fn shrink(&self, bytes: u64) {
        let mut held = lock(&self.held);
        let Held { whole, share } = &mut *held;
        for permit in [whole, share] {
            let beyond = permit.as_mut().and_then(|permit| {
                let beyond = permit.num_permits().checked_sub(pieces(bytes) as usize)?;
                permit.split(beyond)
            });
            drop(beyond);
        }
    }
}

impl Pool {
    fn of(pieces: u32) -> Self {
        let free = Arc::new(Semaphore::new(pieces as usize));
        Self { free, pieces }
    }

    fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = pieces(bytes).min(self.pieces);
        self.free.clone().try_acquire_many_owned(wanted).ok()
    }
}

fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX >> 3)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A room with so many bytes in it.
    fn taken(rooms: &Rooms, namespace: Option<&str>, bytes: u64) -> Result<Room, Refusal> {
        let room = rooms.room(namespace);
        room.take(bytes)?;
        Ok(room)
    }

    #[test]
    fn bytes_are_bounded_for_one_namespace_and_for_all() {
        let rooms = Rooms::new(8 * PIECE, PIECE);
        let held = ["a", "b", "c", "d"].map(|namespace| {
            let room = taken(&rooms, Some(namespace), 2 * PIECE);
            let more = taken(&rooms, Some(namespace), 1).err();
            assert!(matches!(more, Some(Refusal::TooMany(..))), "{more:?}");
            room
        });
        assert!(held.iter().all(Result::is_ok));
        for namespace in [None, Some("e")] {
            let full = taken(&rooms, namespace, 1).err();
            assert!(matches!(full, Some(Refusal::Busy(_))), "{full:?}");
        }
        drop(held);
        assert!(taken(&rooms, None, 8 * PIECE).is_ok());
    }

    #[test]
    fn a_namespace_can_always_have_the_largest_body() {
        let rooms = Rooms::new(0, 5 * PIECE);
        assert!(taken(&rooms, Some("a"), 5 * PIECE).is_ok());
    }

    #[test]
    fn what_is_not_needed_any_more_is_given_back() {
        let rooms = Rooms::new(4 * PIECE, 4 * PIECE);
        let room = taken(&rooms, Some("a"), 4 * PIECE).unwrap();
        room.shrink(PIECE + 1);
        let rest = taken(&rooms, Some("a"), 2 * PIECE).unwrap();
        assert!(taken(&rooms, Some("a"), 1).is_err());
        // It has as much already.
        rest.shrink(3 * PIECE);
        room.take(0).unwrap();
        assert!(taken(&rooms, None, 2 * PIECE).is_ok());
    }

    #[test]
    fn what_is_larger_than_all_there_is_goes_alone() {
        let rooms = Rooms::new(4 * PIECE, PIECE);
        let small = taken(&rooms, Some("b"), 1).unwrap();
        assert!(taken(&rooms, None, 100 * PIECE).is_err());
        drop(small);
        let large = taken(&rooms, Some("a"), 100 * PIECE).unwrap();
        // Its namespace's share is all that it takes there.
        assert!(taken(&rooms, Some("a"), 1).is_err());
        assert!(taken(&rooms, Some("b"), 1).is_err());
        drop(large);
        assert!(taken(&rooms, Some("a"), 1).is_ok());
    }

    #[test]
    fn namespaces_without_a_request_are_forgotten() {
        let rooms = Rooms::new(4 * PIECE, PIECE);
        let held = taken(&rooms, Some("held"), PIECE).unwrap();
        for number in 0..3 * REMEMBERED {
            drop(taken(&rooms, Some(&number.to_string()), PIECE).unwrap());
        }
        assert!(lock(&rooms.shares).len() <= REMEMBERED);
        assert!(taken(&rooms, Some("held"), 1).is_err());
        drop(held);
    }
}
