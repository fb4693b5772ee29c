use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::Open;
use crate::testing::{NOW, SECOND, job};

fn id(n: u64) -> MessageId {
    MessageId(u128::from(n).to_be_bytes())
}

fn ticket(caller: &str, priority: Priority, lane: &str) -> Ticket {
    let job = Job {
        caller: caller.to_owned(),
        priority,
        ..job()
    };
    Ticket::new(&job, Some(lane.into()))
}

const LEASE: Duration = Duration::from_secs(60);

/// Both clocks, where time has only passed: by so much since `NOW`.
fn at(now: UnixMillis) -> Now {
    Now {
        wall: now,
        monotonic: MonotonicMillis::default() + now.since(NOW),
    }
}

/// Takes the next job and ends it; `None` where there is none.
fn take(order: &mut Order, now: UnixMillis) -> Option<MessageId> {
    match order.take(at(now), LEASE, &Open) {
        Next::Job(lease, pass) => {
            assert!(pass.is_some(), "its time is not over");
            order.forget(lease);
            Some(lease.id)
        }
        Next::Nothing(_) => None,
    }
}

/// Lets through whom it names.
struct Only(&'static str);

impl Gate for Only {
    type Pass = ();
    fn pass(&self, lane: Option<&str>, _: MonotonicMillis) -> Result<(), Option<Duration>> {
        if lane == Some(self.0) {
            Ok(())
        } else {
            Err(None)
        }
    }
}

#[test]
fn callers_take_turns_and_a_busy_one_does_not_starve_the_others() {
    let mut order = Order::default();
    for n in 0..1_000 {
        order.add(
            id(n),
            ticket("busy", Priority::Normal, "p"),
            Wait::NONE,
            None,
        );
    }
    for n in 0..3 {
        order.add(
            id(2_000 + n),
            ticket("quiet", Priority::Normal, "p"),
            Wait::NONE,
            None,
        );
    }
    let taken: Vec<_> = (0..6).filter_map(|_| take(&mut order, NOW)).collect();
    let quiet: Vec<_> = taken.iter().filter(|taken| **taken >= id(2_000)).collect();
    assert_eq!(quiet, [&id(2_000), &id(2_001), &id(2_002)], "{taken:?}");
}

#[test]
fn the_urgent_goes_before_the_normal_before_the_bulk_whoever_asks() {
    let mut order = Order::default();
    let priorities = [Priority::Bulk, Priority::Normal, Priority::Urgent];
    for (n, priority) in (0..).zip(priorities) {
        order.add(id(n), ticket("a", priority, "p"), Wait::NONE, None);
        order.add(id(10 + n), ticket("a", priority, "p"), Wait::NONE, None);
    }
    let taken: Vec<_> = std::iter::from_fn(|| take(&mut order, NOW)).collect();
    assert_eq!(taken, [2, 12, 1, 11, 0, 10].map(id));
}

#[test]
fn a_lane_that_is_full_keeps_nobody_else_waiting() {
    let mut order = Order::default();
    order.add(
        id(1),
        ticket("a", Priority::Urgent, "hangs"),
        Wait::NONE,
        None,
    );
    order.add(
        id(2),
        ticket("a", Priority::Bulk, "works"),
        Wait::NONE,
        None,
    );
    let found = order.take(at(NOW), LEASE, &Only("works"));
    assert!(matches!(found, Next::Job(lease, Some(())) if lease.id == id(2)));
    let found = order.take(at(NOW), LEASE, &Only("works"));
    assert!(matches!(found, Next::Nothing(_)));
    assert_eq!(take(&mut order, NOW), Some(id(1)));
}

#[test]
fn a_job_whose_time_is_over_is_found_at_its_deadline_though_its_lane_is_full() {
    let mut order = Order::default();
    let deadline = NOW + 600 * SECOND;
    order.add(
        id(1),
        ticket("a", Priority::Normal, "hangs"),
        Wait::NONE,
        None,
    );
    let Next::Nothing(until) = order.take(at(NOW), LEASE, &Only("works")) else {
        panic!("its lane is full");
    };
    assert_eq!(until, Some(600 * SECOND), "it is time to look again then");
    let found = order.take(at(deadline), LEASE, &Only("works"));
    assert!(matches!(found, Next::Job(lease, None) if lease.id == id(1)));
    assert_eq!(order.claimed(), 1);
}

#[test]
fn a_claim_that_is_lost_makes_way_at_the_end_of_its_lease_and_not_before() {
    let mut order = Order::default();
    order.add(id(1), ticket("a", Priority::Normal, "p"), Wait::NONE, None);
    let Next::Job(lost, Some(())) = order.take(at(NOW), LEASE, &Open) else {
        panic!("it is due");
    };
    let end = NOW + LEASE;
    let just_before = UnixMillis(end.0 - 1);
    let found = order.take(at(just_before), LEASE, &Open);
    assert!(matches!(found, Next::Nothing(Some(rest)) if rest == Duration::from_millis(1)));
    let found = order.take(at(end), LEASE, &Open);
    let Next::Job(lease, Some(())) = found else {
        panic!("the lease is over");
    };
    assert!(!order.holds(lost) && order.holds(lease));
    order.put_back(lost, lost.until, |_| panic!("the old claim is void"));
    order.forget(lost);
    assert_eq!(order.len(), 1);
    let mut lost = lost;
    assert!(!order.renew(&mut lost, at(end + LEASE).monotonic));
}

#[test]
fn a_renewed_lease_holds_for_as_long_as_it_says() {
    let mut order = Order::default();
    order.add(id(1), ticket("a", Priority::Normal, "p"), Wait::NONE, None);
    let Next::Job(mut lease, _) = order.take(at(NOW), SECOND, &Open) else {
        panic!("it is due");
    };
    assert!(order.renew(&mut lease, at(NOW + 10 * SECOND).monotonic));
    let later = NOW + 9 * SECOND;
    assert_eq!(take(&mut order, later), None);
    order.put_back(lease, at(later).monotonic, |ticket| ticket.due = later);
    assert_eq!(take(&mut order, later), Some(id(1)));
    assert_eq!(order.by_priority(), [0; 3]);
    assert_eq!(order.oldest(), None);
}

/// A lane with `jobs` normal jobs of `busy` that one a second is taken from.
fn slow_lane(jobs: u64) -> (Order, UnixMillis) {
    let mut order = Order::default();
    for n in 0..jobs + 11 {
        order.add(
            id(n),
            ticket("busy", Priority::Normal, "p"),
            Wait::NONE,
            None,
        );
    }
    for n in 0..11 {
        assert!(take(&mut order, NOW + n * SECOND).is_some());
    }
    (order, NOW + 10 * SECOND)
}

#[track_caller]
fn check_too_late(order: &Order, new: &Ticket, now: UnixMillis, before: Option<usize>) {
    assert_eq!(order.too_late(new, at(now)), before);
}

#[test]
fn what_could_not_leave_before_its_deadline_is_told_apart_from_what_can() {
    let (order, now) = slow_lane(60);
    let mut new = ticket("busy", Priority::Normal, "p");
    new.deadline = now + 60 * SECOND;
    check_too_late(&order, &new, now, Some(60));
    new.deadline = now + 61 * SECOND;
    check_too_late(&order, &new, now, None);
}

#[test]
fn only_what_goes_first_counts() {
    let (mut order, now) = slow_lane(60);
    let deadline = now + 10 * SECOND;
    let soon = |caller: &str, priority, lane: &str| Ticket {
        deadline,
        ..ticket(caller, priority, lane)
    };
    check_too_late(&order, &soon("busy", Priority::Normal, "p"), now, Some(60));
    // Neither the urgent, nor those of another lane, nor those whose turn comes sooner.
    check_too_late(&order, &soon("busy", Priority::Urgent, "p"), now, None);
    check_too_late(&order, &soon("busy", Priority::Normal, "q"), now, None);
    check_too_late(&order, &soon("other", Priority::Normal, "p"), now, None);
    for n in 0..5 {
        order.add(
            id(500 + n),
            ticket("other", Priority::Normal, "p"),
            Wait::NONE,
            None,
        );
    }
    order.advance(at(now));
    check_too_late(&order, &soon("other", Priority::Normal, "p"), now, Some(10));
}

#[derive(Clone, Debug)]
enum Step {
    Add {
        caller: u8,
        priority: usize,
        delay_s: u32,
    },
    Take,
    Wait {
        seconds: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4u8, 0..3usize, 0..4u32).prop_map(|(caller, priority, delay_s)| Step::Add {
            caller,
            priority,
            delay_s,
        }),
        3 => Just(Step::Take),
        1 => (1..3u32).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// A caller's jobs, each with the time since when it has been due.
type Waiting = (u8, Vec<(UnixMillis, u64)>);

/// The same order, worked out from a list each time.
#[derive(Default)]
struct Model {
    later: Vec<(UnixMillis, u64, usize, u8)>,
    /// For each priority the callers in the order of their turns, with their jobs.
    levels: [Vec<Waiting>; 3],
}

impl Model {
    fn advance(&mut self, now: UnixMillis) {
        self.later.sort_unstable();
        let due = self.later.partition_point(|(due, ..)| *due <= now);
        for (due, id, priority, caller) in self.later.drain(..due) {
            let level = &mut self.levels[priority];
            match level.iter_mut().find(|(name, _)| *name == caller) {
                Some((_, jobs)) => jobs.push((due, id)),
                None => level.push((caller, vec![(due, id)])),
            }
        }
    }

    fn take(&mut self, now: UnixMillis) -> Option<u64> {
        self.advance(now);
        let level = self.levels.iter_mut().find(|level| !level.is_empty())?;
        let (caller, mut jobs) = level.remove(0);
        jobs.sort_unstable();
        let (_, id) = jobs.remove(0);
        if !jobs.is_empty() {
            level.push((caller, jobs));
        }
        Some(id)
    }
}

proptest! {
    #[test]
    fn the_order_is_that_of_the_model(steps in prop::collection::vec(step(), 1..200)) {
        let priorities = [Priority::Urgent, Priority::Normal, Priority::Bulk];
        let mut order = Order::default();
        let mut model = Model::default();
        let mut now = NOW;
        for (n, step) in (0..).zip(steps) {
            match step {
                Step::Add { caller, priority, delay_s } => {
                    let mut ticket = ticket(&caller.to_string(), priorities[priority], "p");
                    ticket.due = now + Duration::from_secs(delay_s.into());
                    model.later.push((ticket.due, n, priority, caller));
                    order.add(id(n), ticket, Wait::Due, None);
                }
                Step::Take => {
                    prop_assert_eq!(take(&mut order, now), model.take(now).map(id));
                }
                Step::Wait { seconds } => {
                    now = now + Duration::from_secs(seconds.into());
                    // As the worker does, whom the clock wakes.
                    order.advance(at(now));
                    model.advance(now);
                }
            }
        }
        let waiting: usize = order.by_priority().iter().sum();
        prop_assert_eq!(order.len(), waiting);
        prop_assert_eq!(order.ages.len(), waiting);
        prop_assert_eq!(order.deadlines.len(), waiting);
    }

    #[test]
    fn of_two_callers_who_both_wait_neither_is_served_twice_more(
        jobs in prop::collection::vec(0..3u8, 1..100),
    ) {
        let mut order = Order::default();
        let mut left = [0usize; 3];
        let mut callers = HashMap::new();
        for (n, caller) in (0..).zip(&jobs) {
            left[usize::from(*caller)] += 1;
            callers.insert(id(n), usize::from(*caller));
            order.add(id(n), ticket(&caller.to_string(), Priority::Normal, "p"), Wait::NONE, None);
        }
        let mut served = [0usize; 3];
        while let Some(taken) = take(&mut order, NOW) {
            let caller = callers[&taken];
            served[caller] += 1;
            left[caller] -= 1;
            for other in 0..3 {
                let waits = left[other] > 0;
                prop_assert!(!waits || served[caller] <= served[other] + 1);
            }
        }
        prop_assert_eq!(served.iter().sum::<usize>(), jobs.len());
    }
}
