//! Turns a crowd away before its requests are looked at.
//!
//! A request that is refused because too many calls of its caller wait has passed the router, its layers
//! and the gate by then, which costs several times what reading it does. So the door remembers what
//! callers present who were turned away a moment ago, and asks the runtime for room before anything else.
//! Who presents something else comes as far as ever, and so does everybody once there is room again.
//!
//! While a crowd is remembered the door also looks how late the event loop is. Where requests wait longer
//! for their turn to be read than a refusal may take, of the crowd nobody is let in, room or not: each call
//! that runs makes all who wait later, and a free place says nothing of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::ServiceExt;

use super::problem::Problem;
use super::{Api, CallError, Caller, Part, body, finish, places_of};
use crate::connections;

/// How many callers are remembered: as many as ask beyond what can be done, most often one.
const REMEMBERED_MAX: usize = 64;

/// How late the event loop may be before a crowd is turned away for that. A refusal is to take 20 ms at
/// most, and what is let in waits in the loop several times.
const LATE: Duration = Duration::from_millis(5);

/// How often it is looked, while a crowd is remembered: about what one turn of a busy loop takes.
const LOOK_TIME: Duration = Duration::from_millis(2);

/// How long a crowd is remembered after the last one who was turned away.
const REMEMBERED_TIME: Duration = Duration::from_secs(1);

/// When it is worth another try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who was turned away.
#[derive(Default)]
pub(super) struct Door {
    /// Whether anybody is remembered; most often nobody is.
    any: AtomicBool,
    /// By a keyed hash of what they present, which was found good when they were turned away, and of the
    /// places that they wanted.
    crowds: Mutex<HashMap<u64, Crowd>>,
    hasher: RandomState,
    /// Whether it is looked how late the event loop is.
    looking: AtomicBool,
    /// Whether it was late when it was looked last.
    late: AtomicBool,
}

struct Crowd {
    caller: Caller,
    /// When it is forgotten, unless another one is turned away.
    until: Instant,
}

impl Door {
    /// Remembers that `caller`, who presents these headers, found no room among `places`.
    pub(super) fn remember(self: &Arc<Self>, headers: &HeaderMap, places: &str, caller: &Caller) {
        let presented = self.presented(headers, places);
        let crowd = Crowd {
            caller: caller.clone(),
            until: Instant::now() + REMEMBERED_TIME,
        };
        {
            let mut crowds = self.crowds();
            if crowds.len() >= REMEMBERED_MAX {
                crowds.clear();
            }
            crowds.insert(presented, crowd);
            self.any.store(true, Ordering::SeqCst);
        }
        if !self.looking.swap(true, Ordering::SeqCst) {
            tokio::spawn(self.clone().look());
        }
    }

    /// Why a request for one of `places` with these headers is turned away; `room` says whether a caller finds
    /// room.
    fn turn_away(
        &self,
        headers: &HeaderMap,
        places: &str,
        room: impl FnOnce(&Caller) -> Result<(), CallError>,
    ) -> Option<CallError> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let presented = self.presented(headers, places);
        let mut crowds = self.crowds();
        let crowd = crowds.get_mut(&presented)?;
        // That the loop is late may be others' doing, so it makes nobody a crowd for longer.
        if self.late.load(Ordering::Relaxed) {
            return Some(CallError::Busy {
                retry_after: RETRY_AFTER,
            });
        }
        let refused = room(&crowd.caller).err()?;
        crowd.until = Instant::now() + REMEMBERED_TIME;
        Some(refused)
    }

    /// Looks how late the event loop is until nobody is remembered any more: a task that waits for a
    /// time has its turn after all whose requests have come meanwhile, so it is as late as the last of
    /// them.
    async fn look(self: Arc<Self>) {
        loop {
            let due = Instant::now() + LOOK_TIME;
            tokio::time::sleep_until(due).await;
            let now = Instant::now();
            self.late.store(now - due > LATE, Ordering::Relaxed);
            if !self.forget(now) {
                continue;
            }
            self.late.store(false, Ordering::Relaxed);
            self.looking.store(false, Ordering::SeqCst);
            // Somebody who was remembered meanwhile took this task for a running one.
            let ends = !self.any.load(Ordering::SeqCst);
            if ends || self.looking.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Forgets crowds of which nobody was turned away for a while; whether nobody is remembered then.
    fn forget(&self, now: Instant) -> bool {
        let mut crowds = self.crowds();
        crowds.retain(|_, crowd| now < crowd.until);
        let nobody = crowds.is_empty();
        self.any.store(!nobody, Ordering::SeqCst);
        nobody
    }

    fn presented(&self, headers: &HeaderMap, places: &str) -> u64 {
        let values = headers.get_all(AUTHORIZATION).iter();
        let values: Vec<&[u8]> = values.map(|value| value.as_bytes()).collect();
        self.hasher.hash_one((places, values))
    }

    fn crowds(&self) -> MutexGuard<'_, HashMap<u64, Crowd>> {
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    fn turn_away(&self, request: &Request<Incoming>) -> Option<Problem> {
        let runtime = self.serving()?;
        let places = places_of(request.uri())?;
        let room = |caller: &Caller| runtime.room_for(places, caller);
        let refused = self.door.turn_away(request.headers(), places, room);
        refused.map(Problem::from)
    }
}

/// What connections serve: the routes, behind the door.
#[derive(Clone)]
pub(crate) struct App {
    api: Arc<Api>,
    router: Router,
}

impl App {
    /// All of the API's routes.
    pub(crate) fn new(api: Arc<Api>) -> App {
        App {
            router: super::router(api.clone()),
            api,
        }
    }
}

impl connections::App for App {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let began = Instant::now();
        let Some(problem) = self.api.turn_away(&request) else {
            let answered = self.router.clone().oneshot(request.map(Body::new)).await;
            return answered.unwrap_or_else(|never| match never {});
        };
        let (parts, body) = request.into_parts();
        let mut response = body::refuse(&parts, Body::new(body), problem).await;
        finish(&mut response, Part::Api);
        if let Some(requests) = self.api.requests.get() {
            // A path without a name in it is its own template; of others it is not looked for.
            let template = Some(parts.uri.path());
            requests.answered(template, &parts.method, &response, began.elapsed());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn presents(token: &'static str) -> HeaderMap {
        let value = HeaderValue::from_static(token);
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    fn full(_: &Caller) -> Result<(), CallError> {
        Err(CallError::Busy {
            retry_after: RETRY_AFTER,
        })
    }

    fn free(_: &Caller) -> Result<(), CallError> {
        Ok(())
    }

    /// As if the loop had had so much else to do.
    async fn busy(time: Duration) {
        tokio::task::yield_now().await;
        tokio::time::advance(time).await;
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_turned_away_is_asked_for_room_first_and_nobody_else() {
        let (door, crowd) = (Arc::new(Door::default()), presents("Bearer crowd"));
        assert!(
            door.turn_away(&crowd, "otp", full).is_none(),
            "nobody was yet"
        );
        door.remember(&crowd, "otp", &Caller::Key("a".to_owned()));
        for _ in 0..2 {
            let refused = door.turn_away(&crowd, "otp", |caller| {
                assert_eq!(*caller, Caller::Key("a".to_owned()));
                full(caller)
            });
            assert!(refused.is_some());
        }
        let other = door.turn_away(&crowd, "two-factor", full);
        assert!(other.is_none(), "another component has room");
        for other in [presents("Bearer other"), HeaderMap::new()] {
            assert!(door.turn_away(&other, "otp", full).is_none());
        }
        assert!(door.turn_away(&crowd, "otp", free).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_forgotten_a_second_after_the_last_who_was_turned_away() {
        let (door, crowd) = (Arc::new(Door::default()), presents("Bearer crowd"));
        for _ in 0..2 {
            door.remember(&crowd, "otp", &Caller::Anonymous);
            tokio::time::sleep(REMEMBERED_TIME * 3 / 4).await;
            assert!(door.turn_away(&crowd, "otp", full).is_some());
            tokio::time::sleep(REMEMBERED_TIME * 3 / 4).await;
            assert!(door.turn_away(&crowd, "otp", full).is_some(), "a crowd yet");
            tokio::time::sleep(REMEMBERED_TIME + 2 * LOOK_TIME).await;
            assert!(door.turn_away(&crowd, "otp", full).is_none());
            assert!(
                !door.looking.load(Ordering::SeqCst),
                "nothing is left to do"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_finds_no_room_while_the_loop_is_late_and_others_do() {
        let (door, crowd) = (Arc::new(Door::default()), presents("Bearer crowd"));
        door.remember(&crowd, "otp", &Caller::Anonymous);
        busy(LOOK_TIME + LATE / 2).await;
        assert!(door.turn_away(&crowd, "otp", free).is_none(), "in time");
        busy(LOOK_TIME + 2 * LATE).await;
        assert!(door.turn_away(&crowd, "otp", free).is_some(), "late");
        let other = presents("Bearer other");
        assert!(door.turn_away(&other, "otp", full).is_none());
        // A timer goes by whole milliseconds.
        busy(2 * LOOK_TIME).await;
        assert!(door.turn_away(&crowd, "otp", free).is_none(), "over");
        // Others keep the loop late: who finds room is no crowd for longer than a second.
        for _ in 0..60 {
            busy(LOOK_TIME + 4 * LATE).await;
            let _ = door.turn_away(&crowd, "otp", free);
        }
        assert!(door.turn_away(&crowd, "otp", full).is_none(), "forgotten");
    }

    #[tokio::test]
    async fn two_values_are_not_one_of_them() {
        let (door, mut both) = (Arc::new(Door::default()), presents("Bearer a"));
        door.remember(&both, "otp", &Caller::Anonymous);
        both.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(door.turn_away(&both, "otp", full).is_none());
    }

    #[tokio::test]
    async fn few_are_remembered() {
        let door = Arc::new(Door::default());
        for n in 0..1_000 {
            let value = HeaderValue::try_from(format!("Bearer {n}")).expect("visible");
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            door.remember(&headers, "otp", &Caller::Anonymous);
        }
        assert!(door.crowds().len() <= REMEMBERED_MAX);
    }
}
