//! Room for calls: how many run at once, how many wait, and for how long.
//!
//! Each component has places of its own, so that a slow one takes none of the others'. For those, callers
//! wait in lines of their own and take turns, so that one that asks without end stops nobody but itself.
//!
//! A line is there for bursts. One in which nobody gets a place soon any more only makes its caller late: a
//! crowd, of which few may wait, and not for long. The rest is turned away at once, at the door, before
//! anything is done for it: who is let in is served about as fast as without the crowd, and who is not
//! knows it within milliseconds. A crowd is over when nobody has been turned away for a while; that its
//! line got empty says little, since the places of a whole group of commits become free at once.
//! (Controlled delay, RFC 8289, with a time-out for each caller, as in B. Maurer, "Fail at Scale", ACM
//! Queue 13(8), 2015; with a line for each, as in RFC 8290.)
//!
//! Whoever asks for no more than a share of the places, as many as all callers have who are there, is no
//! crowd, whatever the others do to the time that it takes.
//!
//! Calls of a component that usually computes for long take turns besides: [`alone`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::call_figures::PlacesOverview;
use crate::{Caller, Limits};

mod alone;

pub(crate) use alone::Alone;
use alone::Usual;

/// How long a call waits in a crowd, and in a line that is no burst: one of which some call gets a place
/// sooner moves on, however long it is (RFC 8289's target; section 4.3 there says why 5 ms).
const SOON: Duration = Duration::from_millis(5);

/// For which part of the longest wait nobody of a line may get a place [`SOON`] before it is a crowd.
const STANDING: u32 = 4;

/// How many calls of a crowd wait: about as many as get places within [`SOON`].
const CROWDED_WAITING: usize = 8;

/// Whose places those are for calls that the host answers by itself: they stand in the same line for the
/// store as the components' calls, and make those late that come behind them.
pub const HOST_CALLS: &str = "host";

/// The places of all components, by name: all versions of one share theirs.
pub(crate) struct AllPlaces {
    each: RwLock<BTreeMap<String, Places>>,
    limits: Limits,
}

impl AllPlaces {
    /// As many for each component as `limits` say.
    pub(crate) fn new(limits: &Limits) -> AllPlaces {
        AllPlaces {
            each: RwLock::default(),
            limits: limits.clone(),
        }
    }

    /// Those of `component`, which are made where it has none yet.
    pub(crate) fn of(&self, component: &str) -> Places {
        if let Some(places) = self.find(component) {
            return places;
        }
        let limits = &self.limits;
        let mut each = self.each.write().unwrap_or_else(PoisonError::into_inner);
        let of_it = each.entry(component.to_owned()).or_insert_with(|| {
            Places::new(
                limits.service_calls,
                limits.service_waiting,
                limits.service_wait,
                limits.epoch,
            )
        });
        of_it.clone()
    }

    /// How they stand, by component.
    pub(crate) fn overview(&self) -> Vec<PlacesOverview> {
        let each = self.each.read().unwrap_or_else(PoisonError::into_inner);
        let of_one = |(component, places): (&String, &Places)| {
            let (free, waiting) = places.overview();
            PlacesOverview {
                component: component.clone(),
                places: self.limits.service_calls,
                taken: self.limits.service_calls.saturating_sub(free),
                waiting,
            }
        };
        each.iter().map(of_one).collect()
    }

    /// Those of `component`, where it has any.
    pub(crate) fn find(&self, component: &str) -> Option<Places> {
        let each = self.each.read().unwrap_or_else(PoisonError::into_inner);
        each.get(component).cloned()
    }
}

/// The places in which a component's calls run.
#[derive(Clone)]
pub(crate) struct Places(Arc<Inner>);

struct Inner {
    lines: Mutex<Lines>,
    places: usize,
    waiting_max: usize,
    wait: Duration,
    usual: Usual,
}

/// Those who wait. A place is free only while nobody does.
struct Lines {
    free: usize,
    callers: HashMap<Caller, Line>,
    /// How many calls of each caller run or wait; never 0.
    held: HashMap<Caller, usize>,
    /// Until when a caller's calls are a crowd. Of callers that are gone some stay; there are no more
    /// than keys.
    crowds: HashMap<Caller, Instant>,
    /// Whose turn it is, the lowest number first.
    turns: BTreeMap<u64, Caller>,
    /// Numbers turns and those who wait.
    next: u64,
}

/// The calls of one caller that wait; never empty.
struct Line {
    turn: u64,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Call>,
    /// When one of them got a place [`SOON`] the last time, or else when the line began.
    moved: Instant,
}

/// A call that waits.
struct Call {
    joined: Instant,
    place: oneshot::Sender<Place>,
}

/// A place for one call of a caller, until it is dropped.
// `None`: it has gone back another way.
pub struct Place(Option<(Arc<Inner>, Caller)>);

/// There is no place, and there will be none soon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Places {
    /// `places` calls at once; of each caller `waiting_max` may wait, for `wait` at most.
    /// `epoch` is that of [`Limits`].
    pub(crate) fn new(
        places: usize,
        waiting_max: usize,
        wait: Duration,
        epoch: Duration,
    ) -> Places {
        Places(Arc::new(Inner {
            lines: Mutex::new(Lines {
                free: places,
                callers: HashMap::new(),
                held: HashMap::new(),
                crowds: HashMap::new(),
                turns: BTreeMap::new(),
                next: 0,
            }),
            places,
            waiting_max,
            wait,
            usual: Usual::new(epoch),
        }))
    }

    /// A run of one of the calls has had a processor for so long.
    pub(crate) fn ran(&self, used: Duration) {
        self.0.usual.ran(used);
    }

    /// The turn of a call where they usually compute for long.
    pub(crate) async fn alone(&self) -> Option<Alone> {
        self.0.usual.alone().await
    }

    /// Whether a call of `caller` would find no room to wait now, so that nothing needs to be done for
    /// it. It counts as turned away.
    pub(crate) fn turn_away(&self, caller: &Caller) -> bool {
        let mut lines = self.0.lines();
        // Most often: no crowd anywhere.
        !lines.crowds.is_empty() && lines.room(&self.0, caller, Instant::now()).is_none()
    }

    /// How many places are free, and how many calls wait for one.
    fn overview(&self) -> (usize, usize) {
        let lines = self.0.lines();
        let waiting = lines.callers.values().map(|line| line.waiting.len());
        (lines.free, waiting.sum())
    }

    /// A place for a call of `caller`.
    pub(crate) async fn take(&self, caller: &Caller) -> Result<Place, Full> {
        let (mut waiting, wait) = {
            let mut lines = self.0.lines();
            // While anybody waits none is free: nobody overtakes.
            if lines.free > 0 {
                lines.free -= 1;
                lines.hold(caller);
                return Ok(Place(Some((self.0.clone(), caller.clone()))));
            }
            self.join(&mut lines, caller, Instant::now())?
        };
        match tokio::time::timeout(wait, &mut waiting.place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }

    /// A place in the caller's line, and how long it is good for.
    fn join(
        &self,
        lines: &mut Lines,
        caller: &Caller,
        now: Instant,
    ) -> Result<(Waiting, Duration), Full> {
        let wait = lines.room(&self.0, caller, now).ok_or(Full)?;
        lines.hold(caller);
        let number = lines.number();
        let (sender, place) = oneshot::channel();
        let call = Call {
            joined: now,
            place: sender,
        };
        lines.line(caller, now).waiting.insert(number, call);
        let waiting = Waiting {
            places: self.0.clone(),
            caller: caller.clone(),
            number,
            place,
        };
        Ok((waiting, wait))
    }
}

impl Inner {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn is_crowd(&self, caller: &Caller, now: Instant) -> bool {
        self.crowds.get(caller).is_some_and(|until| now < *until)
    }

    /// Whether `caller` has less than its share: as many places as there are for each who is there.
    fn is_modest(&self, inner: &Inner, caller: &Caller) -> bool {
        let held = self.held.get(caller).copied();
        let callers = self.held.len() + usize::from(held.is_none());
        held.unwrap_or(0) < inner.places / callers
    }

    /// How long one more call of `caller` may wait; `None` where it may not. A line that has stood for
    /// too long becomes a crowd, and a crowd of which one is turned away stays one for as long again.
    fn room(&mut self, inner: &Inner, caller: &Caller, now: Instant) -> Option<Duration> {
        let line = self.callers.get(caller);
        let waiting = line.map_or(0, |line| line.waiting.len());
        let stands =
            line.is_some_and(|line| now.duration_since(line.moved) >= inner.wait / STANDING);
        let was_crowd = self.is_crowd(caller, now);
        if self.is_modest(inner, caller) || !(was_crowd || stands) {
            if !was_crowd {
                self.crowds.remove(caller);
            }
            return (waiting < inner.waiting_max).then_some(inner.wait);
        }
        let has_room = waiting < CROWDED_WAITING.min(inner.waiting_max);
        if !(has_room && was_crowd) {
            self.crowds.insert(caller.clone(), now + inner.wait);
        }
        has_room.then_some(SOON.min(inner.wait))
    }

    /// One more call of `caller` runs or waits.
    fn hold(&mut self, caller: &Caller) {
        match self.held.get_mut(caller) {
            Some(held) => *held += 1,
            None => {
                self.held.insert(caller.clone(), 1);
            }
        }
    }

    /// One of the calls of `caller` is over, or waits no longer.
    fn let_go(&mut self, caller: &Caller) {
        match self.held.get_mut(caller) {
            Some(held) if *held > 1 => *held -= 1,
            _ => {
                self.held.remove(caller);
            }
        }
    }

    /// The line of `caller`, which begins at `now` where there is none.
    fn line(&mut self, caller: &Caller, now: Instant) -> &mut Line {
        let turn = self.next;
        self.callers.entry(caller.clone()).or_insert_with(|| {
            self.turns.insert(turn, caller.clone());
            Line {
                turn,
                waiting: BTreeMap::new(),
                moved: now,
            }
        })
    }

    /// The call that goes next: of the caller whose turn it is the one that came first.
    fn pop(&mut self) -> Option<(Caller, oneshot::Sender<Place>)> {
        let (_, caller) = self.turns.pop_first()?;
        let turn = self.number();
        let line = self.callers.get_mut(&caller)?;
        let (_, next) = line.waiting.pop_first()?;
        let now = Instant::now();
        if now.duration_since(next.joined) < SOON {
            line.moved = now;
        }
        line.turn = turn;
        if line.waiting.is_empty() {
            self.callers.remove(&caller);
        } else {
            self.turns.insert(turn, caller.clone());
        }
        Some((caller, next.place))
    }

    /// Takes a call out of its line that waits no longer, if it still stands there.
    fn leave(&mut self, caller: &Caller, number: u64) {
        let Some(line) = self.callers.get_mut(caller) else {
            return;
        };
        let left = line.waiting.remove(&number);
        if line.waiting.is_empty() {
            self.turns.remove(&line.turn);
            self.callers.remove(caller);
        }
        if left.is_some() {
            self.let_go(caller);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((inner, mut over)) = self.0.take() else {
            return;
        };
        loop {
            let (next, call) = {
                let mut lines = inner.lines();
                lines.let_go(&over);
                match lines.pop() {
                    Some(next) => next,
                    None => {
                        lines.free += 1;
                        return;
                    }
                }
            };
            let Err(mut place) = call.send(Place(Some((inner.clone(), next.clone())))) else {
                return;
            };
            // It gave up at this moment: the next one gets the place, from here.
            place.0 = None;
            over = next;
        }
    }
}

/// A call that waits, until it is dropped.
struct Waiting {
    places: Arc<Inner>,
    caller: Caller,
    number: u64,
    place: oneshot::Receiver<Place>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.places.lines().leave(&self.caller, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const LONG: Duration = Duration::from_secs(3600);
    const EPOCH: Duration = Duration::from_millis(5);

    fn key(id: &str) -> Caller {
        Caller::Key(id.to_owned())
    }

    #[tokio::test]
    async fn as_many_as_there_are_places_run_and_the_next_waits() {
        let places = Places::new(2, 1, LONG, EPOCH);
        let caller = key("a");
        let first = places.take(&caller).await.expect("free");
        let _second = places.take(&caller).await.expect("free");
        let mut third = Box::pin(places.take(&caller));
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(
            places.take(&caller).await.err(),
            Some(Full),
            "one may wait, not two"
        );
        drop(first);
        let _third = third.await.expect("its turn");
    }

    #[tokio::test]
    async fn a_component_whose_places_are_taken_takes_none_of_anothers() {
        let limits = Limits {
            service_calls: 1,
            service_waiting: 0,
            ..Limits::default()
        };
        let all = AllPlaces::new(&limits);
        let caller = key("a");
        let _slow = all.of("slow").take(&caller).await.expect("free");
        // Another version of it comes to the same places.
        assert_eq!(all.of("slow").take(&caller).await.err(), Some(Full));
        assert!(all.of("other").take(&caller).await.is_ok());
        assert!(all.find("nobody").is_none());
    }

    #[tokio::test]
    async fn who_gives_up_makes_room_for_another_to_wait() {
        let places = Places::new(1, 1, LONG, EPOCH);
        let caller = key("a");
        let _first = places.take(&caller).await.expect("free");
        let mut second = Box::pin(places.take(&caller));
        assert!(second.as_mut().now_or_never().is_none());
        drop(second);
        let mut third = Box::pin(places.take(&caller));
        assert!(third.as_mut().now_or_never().is_none(), "it may wait");
        drop(third);
        let lines = places.0.lines();
        assert!(lines.callers.is_empty() && lines.turns.is_empty());
    }

    #[tokio::test]
    async fn a_place_that_was_handed_to_one_who_gives_up_goes_to_the_next() {
        let places = Places::new(1, 9, LONG, EPOCH);
        let caller = key("a");
        let first = places.take(&caller).await.expect("free");
        let mut second = Box::pin(places.take(&caller));
        let mut third = Box::pin(places.take(&caller));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(
            third.as_mut().now_or_never().is_none(),
            "it is the second's"
        );
        drop(second);
        let third = third.now_or_never().expect("its turn").expect("a place");
        drop(third);
        assert_eq!(places.0.lines().free, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends() {
        let places = Places::new(1, 10, LONG, EPOCH);
        let caller = key("a");
        let _first = places.take(&caller).await.expect("free");
        let began = Instant::now();
        assert_eq!(places.take(&caller).await.err(), Some(Full));
        assert_eq!(began.elapsed(), LONG);
    }

    #[tokio::test]
    async fn callers_take_turns_and_each_one_is_served_in_the_order_in_which_it_came() {
        let places = Places::new(1, 9, LONG, EPOCH);
        let mut running = places.take(&key("a")).await.expect("free");
        let calls = ["a", "a", "a", "a", "b", "b", "c", "a"];
        let mut waiting: Vec<_> = calls
            .iter()
            .map(|caller| {
                (
                    *caller,
                    Box::pin({
                        let places = places.clone();
                        async move { places.take(&key(caller)).await }
                    }),
                )
            })
            .collect();
        for (_, call) in &mut waiting {
            assert!(call.as_mut().now_or_never().is_none());
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(running);
            let ready = waiting.iter_mut().enumerate().find_map(|(at, (_, call))| {
                let place = call.as_mut().now_or_never()?;
                Some((at, place.expect("its turn")))
            });
            let (at, place) = ready.expect("a place was free");
            running = place;
            order.push((waiting.remove(at).0, at));
        }
        let callers: String = order.iter().map(|(caller, _)| *caller).collect();
        assert_eq!(callers, "abcabaaa");
        // Of one caller always the first that is left.
        let mut of_a = order.iter().filter(|(caller, _)| *caller == "a");
        assert!(of_a.all(|(_, at)| *at == 0), "{order:?}");
    }

    #[tokio::test]
    async fn a_caller_whose_line_is_full_stops_nobody_else() {
        let places = Places::new(1, 2, LONG, EPOCH);
        let (flood, quiet) = (key("flood"), key("quiet"));
        let running = places.take(&flood).await.expect("free");
        let mut line: Vec<_> = (0..2).map(|_| Box::pin(places.take(&flood))).collect();
        for call in &mut line {
            assert!(call.as_mut().now_or_never().is_none());
        }
        assert_eq!(places.take(&flood).await.err(), Some(Full));
        let mut call = Box::pin(places.take(&quiet));
        assert!(call.as_mut().now_or_never().is_none(), "it may wait");
        drop(running);
        let first = line.remove(0).now_or_never().expect("it came first");
        drop(first);
        let call = call.now_or_never().expect("its turn comes second");
        assert!(call.is_ok());
    }

    #[test]
    fn a_burst_waits_and_a_standing_crowd_does_not() {
        let wait = Duration::from_millis(100);
        let places = Places::new(1, 100, wait, EPOCH);
        let start = Instant::now();
        let join = |caller: &str, ms| {
            let mut lines = places.0.lines();
            let now = start + Duration::from_millis(ms);
            places.join(&mut lines, &key(caller), now).expect("room")
        };
        let (first, span) = join("a", 0);
        assert_eq!(span, wait);
        let (second, span) = join("a", 24);
        assert_eq!(span, wait, "the crowd is not old yet");
        drop(first);
        let (third, span) = join("a", 25);
        assert_eq!(span, SOON, "one of them has waited all the time");
        let (_other, span) = join("b", 25);
        assert_eq!(span, wait, "it is not this caller's crowd");
        drop((second, third));
        let (fourth, span) = join("a", 124);
        assert_eq!(span, SOON, "an empty line is not the end of a crowd");
        drop(fourth);
        let (_fifth, span) = join("a", 125);
        assert_eq!(span, wait, "nobody was turned away for a whole wait");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_no_more_than_a_share_is_no_crowd_whatever_others_do() {
        let wait = Duration::from_millis(100);
        let places = Places::new(8, 100, wait, EPOCH);
        let (flood, quiet) = (key("flood"), key("quiet"));
        let mut running = Vec::new();
        for _ in 0..8 {
            running.push(places.take(&flood).await.expect("free"));
        }
        let join = |caller| places.join(&mut places.0.lines(), caller, Instant::now());
        let mut waiting = vec![
            join(&flood).expect("room").0,
            join(&quiet).expect("room").0,
            join(&quiet).expect("room").0,
        ];
        tokio::time::advance(wait / STANDING).await;
        // Both lines stand.
        let (third, span) = join(&quiet).expect("room");
        assert_eq!(span, wait, "half of the places are for two callers");
        let (fourth, span) = join(&quiet).expect("room");
        assert_eq!(span, wait);
        waiting.extend([third, fourth]);
        let (fifth, span) = join(&quiet).expect("room");
        assert_eq!(span, SOON, "more than the half");
        waiting.push(fifth);
        let (_, span) = join(&flood).expect("room");
        assert_eq!(span, SOON);
        // With the others gone all places are a share.
        drop((waiting, running));
        assert!(places.0.lines().held.is_empty());
        assert!(!places.turn_away(&quiet));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_moves_on_is_no_crowd_however_long_it_lasts() {
        let wait = Duration::from_millis(100);
        let places = Places::new(1, 100, wait, EPOCH);
        let caller = key("a");
        let mut running = places.take(&caller).await.expect("free");
        let join = || places.join(&mut places.0.lines(), &caller, Instant::now());
        let mut next = join().expect("room").0;
        for _ in 0..100 {
            tokio::time::advance(SOON - Duration::from_millis(1)).await;
            let (waiting, span) = join().expect("room");
            assert_eq!(span, wait, "the one before gets its place soon");
            drop(running);
            running = (&mut next.place).await.expect("its turn");
            next = waiting;
        }
        // As much is done, and each has waited for longer.
        for late in 0..6 {
            let (waiting, span) = join().expect("room");
            let crowd = SOON * late >= wait / STANDING;
            assert_eq!(span == SOON, crowd, "{late}");
            tokio::time::advance(SOON).await;
            drop(running);
            running = (&mut next.place).await.expect("its turn");
            next = waiting;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_crowd_few_wait_and_the_rest_is_turned_away_at_the_door() {
        let wait = Duration::from_millis(100);
        let places = Places::new(1, 100, wait, EPOCH);
        let (crowd, quiet) = (key("crowd"), key("quiet"));
        let _running = places.take(&crowd).await.expect("free");
        let join = || {
            let call = places.join(&mut places.0.lines(), &crowd, Instant::now());
            call.map(|(waiting, _)| waiting)
        };
        let burst: Vec<_> = (0..100).map_while(|_| join().ok()).collect();
        assert_eq!(burst.len(), 100, "a burst may wait");
        assert!(!places.turn_away(&crowd), "it is no crowd yet");
        tokio::time::advance(wait / STANDING).await;
        assert!(join().is_err(), "the burst stands there still");
        assert!(places.turn_away(&crowd));
        assert!(!places.turn_away(&quiet));
        drop(burst);
        assert!(!places.turn_away(&crowd), "there is room again");
        let few: Vec<_> = (0..100).map_while(|_| join().ok()).collect();
        assert_eq!(few.len(), CROWDED_WAITING);
        // As long as somebody is turned away, it stays a crowd.
        for _ in 0..10 {
            tokio::time::advance(wait / 2).await;
            assert!(places.turn_away(&crowd));
        }
        drop(few);
        tokio::time::advance(wait).await;
        assert!(!places.turn_away(&crowd));
        assert!(places.0.lines().crowds.is_empty());
    }
}
