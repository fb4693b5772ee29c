//! Room for requests of HTTP/2, over all connections.
//!
//! A connection of HTTP/1.1 has one request at a time, so there are no more requests than connections. One
//! of HTTP/2 has a hundred, and a hundred times `http.connections-max` is no bound: each costs its sender a
//! few dozen bytes and the server kilobytes, for as long as its body does not end or its answer is not read.
//! So all connections share places, as many as there may be connections, and each has one of its own
//! besides: whoever takes all that can be had leaves the others that one at least, which is what they would
//! have with HTTP/1.1.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests at a time on one connection: the least that RFC 9113 recommends (6.5.2).
pub(super) const STREAMS_MAX: u32 = 100;

/// However few connections there may be: a proxy may put all that it has into one of them.
const PLACES_MIN: usize = 10 * STREAMS_MAX as usize;

/// The places that all connections share.
pub(super) struct Room {
    free: Arc<Semaphore>,
    all: usize,
}

impl Room {
    /// As many places as there may be connections.
    pub(super) fn new(connections_max: usize) -> Arc<Room> {
        let all = connections_max.max(PLACES_MIN);
        Arc::new(Room {
            free: Arc::new(Semaphore::new(all)),
            all,
        })
    }

    /// A place for a connection that has `taken` already.
    ///
    /// While half of all places are free, it gets whatever it asks for, and below that fewer, in
    /// proportion: a few connections that take all they can leave some for one that comes later.
    fn place(&self, taken: usize) -> Option<OwnedSemaphorePermit> {
        let may_have = (2 * STREAMS_MAX as usize).saturating_mul(self.free.available_permits());
        if taken.saturating_mul(self.all) > may_have {
            return None;
        }
        self.free.clone().try_acquire_owned().ok()
    }
}

/// What one connection has of the room.
pub(super) struct Share {
    room: Arc<Room>,
    own: Arc<Semaphore>,
    taken: Arc<AtomicUsize>,
}

impl Share {
    pub(super) fn of(room: &Arc<Room>) -> Share {
        Share {
            room: room.clone(),
            own: Arc::new(Semaphore::new(1)),
            taken: Arc::default(),
        }
    }

    /// A place for one more request; `None` where it has to be refused.
    pub(super) fn place(&self) -> Option<Place> {
        let own = self.own.clone().try_acquire_owned().ok();
        let shared = || self.room.place(self.taken.load(Ordering::Acquire));
        let permit = own.or_else(shared)?;
        self.taken.fetch_add(1, Ordering::AcqRel);
        Some(Place {
            taken: self.taken.clone(),
            _permit: permit,
        })
    }
}

/// The place of one request, until it is dropped.
pub(super) struct Place {
    taken: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// `body`, with the place kept until all of it has been taken or its reader is gone: an answer that is
    /// not read takes memory as well.
    pub(super) fn until_read(self, body: Body) -> Body {
        Body::new(Answered { body, _place: self })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body of an answer, and the place of its request.
struct Answered {
    body: Body,
    _place: Place,
}

impl hyper::body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::HttpBody as _;

    use super::*;

    /// All that a connection gets which takes what it can.
    fn take_all(share: &Share) -> Vec<Place> {
        let streams = (0..STREAMS_MAX).map_while(|_| share.place());
        streams.collect()
    }

    #[test]
    fn a_connection_alone_has_as_many_requests_as_it_may_have_streams() {
        for connections_max in [1, 1_000, 10_000] {
            let share = Share::of(&Room::new(connections_max));
            for _ in 0..2 {
                let places = take_all(&share);
                assert_eq!(places.len(), STREAMS_MAX as usize, "{connections_max}");
            }
        }
    }

    #[test]
    fn however_many_connections_take_all_they_can_each_has_one_and_all_have_a_bound() {
        const CONNECTIONS: usize = 2_000;
        let room = Room::new(CONNECTIONS);
        let shares: Vec<_> = (0..CONNECTIONS).map(|_| Share::of(&room)).collect();
        let mut places: Vec<_> = shares.iter().map(take_all).collect();
        assert!(places.iter().all(|places| !places.is_empty()));
        let taken: usize = places.iter().map(Vec::len).sum();
        assert!(taken <= 2 * CONNECTIONS, "{taken}");
        // The others give back what they have.
        places.truncate(1);
        let places = take_all(&shares[1]);
        assert_eq!(places.len(), STREAMS_MAX as usize);
    }

    #[test]
    fn a_few_that_take_all_they_can_leave_some_for_the_next() {
        let room = Room::new(10_000);
        let crowd: Vec<_> = (0..100).map(|_| Share::of(&room)).collect();
        let _taken: Vec<_> = crowd.iter().map(take_all).collect();
        let next = take_all(&Share::of(&room));
        assert!(next.len() > 20, "{}", next.len());
    }

    #[tokio::test]
    async fn an_answer_keeps_its_place_until_it_is_read() {
        let share = Share::of(&Room::new(1));
        let place = share.place().expect("nobody else asks");
        let body = place.until_read(Body::from("text"));
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(share.taken.load(Ordering::Acquire), 1);
        let read = axum::body::to_bytes(body, 4).await.expect("all of it");
        assert_eq!(&*read, b"text");
        assert_eq!(share.taken.load(Ordering::Acquire), 0);
    }
}
