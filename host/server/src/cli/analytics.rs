//! `countersign analytics`: counts anew what became of messages.

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::ask::{AskError, Session, print};
use super::{Failure, Place};
use crate::config::{Environment, Merged, Offline};
use crate::control::{Answer, ControlError, Request};
use crate::recount::{AnalyticsRequest, RecountShown};

/// Count anew what became of messages.
#[derive(Debug, Args)]
pub(super) struct Analytics {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the figures of the dashboard again from the messages that are kept, while the server runs or
    /// not. Hours of which a message is no longer kept stay as they are.
    Rebuild,
}

impl Analytics {
    /// Does it and prints what was done.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let settings = Merged::load(&self.place.into(), environment)?.offline()?;
        let Action::Rebuild = self.action;
        let done = rebuild(&settings)?;
        Ok(print(&match self.json {
            true => format!("{}\n", as_json(&done)),
            false => for_people(&done),
        })?)
    }
}

/// Goes on until all is done, and shows how far it is where standard error is a terminal.
fn rebuild(settings: &Offline) -> Result<RecountShown, AskError> {
    let progress = Progress::on(ProgressDrawTarget::stderr());
    let mut session = Session::new(settings);
    let mut request = AnalyticsRequest::Rebuild;
    loop {
        let Answer::Recounted(shown) = session.ask(Request::Analytics(request))? else {
            return Err(ControlError::Answer.into());
        };
        progress.show(&shown);
        if shown.is_over {
            return Ok(shown);
        }
        request = AnalyticsRequest::GoOn { run: shown.run };
    }
}

/// How far it is: first of the events that are read, then of the hours that are counted.
struct Progress(ProgressBar);

impl Progress {
    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{msg} {bar:40} {pos} of {len}, {eta} left");
        // The template is right, or the bar is the library's own.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    fn show(&self, shown: &RecountShown) {
        let Self(bar) = self;
        if shown.is_over {
            return bar.finish_and_clear();
        }
        let is_reading = shown.events.0 < shown.events.1;
        let (message, (at, all)) = match is_reading {
            true => ("events", shown.events),
            false => ("hours ", shown.hours),
        };
        if bar.message() != message {
            bar.set_message(message);
            bar.reset();
        }
        bar.set_length(all);
        bar.set_position(at);
    }
}

fn as_json(done: &RecountShown) -> serde_json::Value {
    json!({
        "hours": done.hours.1,
        "same": done.same,
        "changed": done.changed,
        "incomplete": done.incomplete,
        "busy": done.busy,
    })
}

fn for_people(done: &RecountShown) -> String {
    let mut text = format!(
        "{} hours: {} are counted as before, {} otherwise now, {} are left as they are because not all of their messages are kept.\n",
        done.hours.1,
        done.same,
        done.changed.len(),
        done.incomplete
    );
    for hour in &done.changed {
        text += &format!("changed: {hour}\n");
    }
    for hour in &done.busy {
        text += &format!("left as it is, since its messages went on all the time: {hour}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_how_many_of_the_events_and_then_of_the_hours_are_done() {
        let progress = Progress::on(ProgressDrawTarget::hidden());
        let Progress(bar) = &progress;
        for (events, hours, want) in [
            ((0, 70), (0, 0), ("events", 0, 70)),
            ((64, 70), (0, 0), ("events", 64, 70)),
            ((70, 70), (0, 9), ("hours ", 0, 9)),
            // Events that came meanwhile were read too.
            ((75, 75), (3, 9), ("hours ", 3, 9)),
        ] {
            progress.show(&RecountShown {
                events,
                hours,
                ..RecountShown::default()
            });
            let (message, at, all) = want;
            assert_eq!(bar.message(), message);
            assert_eq!((bar.position(), bar.length()), (at, Some(all)));
            assert!(!bar.is_finished());
        }
        progress.show(&RecountShown {
            is_over: true,
            ..RecountShown::default()
        });
        assert!(bar.is_finished());
    }

    #[test]
    fn it_says_which_hours_were_replaced_and_which_were_not() {
        let done = RecountShown {
            hours: (5, 5),
            same: 2,
            changed: vec!["2026-01-31T12:00:00Z".to_owned()],
            incomplete: 1,
            busy: vec!["2026-01-31T13:00:00Z".to_owned()],
            ..RecountShown::default()
        };
        let want = "\
5 hours: 2 are counted as before, 1 otherwise now, 1 are left as they are because not all of their messages are kept.
changed: 2026-01-31T12:00:00Z
left as it is, since its messages went on all the time: 2026-01-31T13:00:00Z
";
        assert_eq!(for_people(&done), want);
        let want = json!({
            "hours": 5, "same": 2, "changed": ["2026-01-31T12:00:00Z"],
            "incomplete": 1, "busy": ["2026-01-31T13:00:00Z"],
        });
        assert_eq!(as_json(&done), want);
    }
}
