//! Turns a crowd away before its requests are looked at.
//!
//! A request that is refused because too many calls of its caller wait has passed the router, its layers
//! and the gate by then, which costs several times what reading it does. So the door remembers what
//! callers present who were turned away a moment ago, and asks the runtime for room before anything else.
//! Who presents something else comes as far as ever, and so does everybody once there is room again.

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

/// How long a crowd is remembered after the last one who was turned away.
const REMEMBERED_TIME: Duration = Duration::from_secs(1);

/// Who was turned away.
#[derive(Default)]
pub(super) struct Door {
    /// Whether anybody is remembered; most often nobody is.
    any: AtomicBool,
    /// By a keyed hash of what they present, which was found good when they were turned away, and of the
    /// places that they wanted.
    crowds: Mutex<HashMap<u64, Crowd>>,
    hasher: RandomState,
}

struct Crowd {
    caller: Caller,
    /// When the last one was turned away.
    last: Instant,
}

impl Door {
    /// Remembers that `caller`, who presents these headers, found no room among `places`.
    pub(super) fn remember(&self, headers: &HeaderMap, places: &str, caller: &Caller) {
        let presented = self.presented(headers, places);
        let crowd = Crowd {
            caller: caller.clone(),
            last: Instant::now(),
        };
        let mut crowds = self.crowds();
        if crowds.len() >= REMEMBERED_MAX {
            crowds.clear();
        }
        crowds.insert(presented, crowd);
        self.any.store(true, Ordering::Release);
    }

    /// Why a request for one of `places` with these headers is turned away; `room` says whether a caller
    /// finds room.
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
        let now = Instant::now();
        let mut crowds = self.crowds();
        crowds.retain(|_, crowd| now - crowd.last < REMEMBERED_TIME);
        self.any.store(!crowds.is_empty(), Ordering::Release);
        let crowd = crowds.get_mut(&presented)?;
        let refused = room(&crowd.caller).err()?;
        crowd.last = now;
        Some(refused)
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
        let retry_after = Duration::from_secs(1);
        Err(CallError::Busy { retry_after })
    }

    fn free(_: &Caller) -> Result<(), CallError> {
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_turned_away_is_asked_for_room_first_and_nobody_else() {
        let (door, crowd) = (Door::default(), presents("Bearer crowd"));
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
        let (door, crowd) = (Door::default(), presents("Bearer crowd"));
        for _ in 0..2 {
            door.remember(&crowd, "otp", &Caller::Anonymous);
            tokio::time::sleep(REMEMBERED_TIME * 3 / 4).await;
            assert!(door.turn_away(&crowd, "otp", full).is_some());
            tokio::time::sleep(REMEMBERED_TIME * 3 / 4).await;
            assert!(door.turn_away(&crowd, "otp", full).is_some(), "a crowd yet");
            tokio::time::sleep(REMEMBERED_TIME * 3 / 4).await;
            assert!(door.turn_away(&crowd, "otp", free).is_none());
            tokio::time::sleep(REMEMBERED_TIME / 4).await;
            assert!(
                door.turn_away(&crowd, "otp", full).is_none(),
                "who finds room is no crowd for longer"
            );
            assert!(!door.any.load(Ordering::SeqCst), "nobody is asked for");
        }
    }

    #[tokio::test]
    async fn two_values_are_not_one_of_them() {
        let (door, mut both) = (Door::default(), presents("Bearer a"));
        door.remember(&both, "otp", &Caller::Anonymous);
        both.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(door.turn_away(&both, "otp", full).is_none());
    }

    #[tokio::test]
    async fn few_are_remembered() {
        let door = Door::default();
        for n in 0..1_000 {
            let value = HeaderValue::try_from(format!("Bearer {n}")).expect("visible");
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            door.remember(&headers, "otp", &Caller::Anonymous);
        }
        assert!(door.crowds().len() <= REMEMBERED_MAX);
    }
}
