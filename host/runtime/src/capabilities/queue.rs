//! `countersign:service/queue`: messages in the call's transaction.

use std::time::Duration;

use countersign_delivery::Template;
use countersign_queue::{Counts, Job, accepted_event, job_row};
use countersign_types::{Entropy, MessageId, Priority, SeededEntropy, UnixMillis};
use rand::Rng;

use super::{Access, bounded, codes, count};
use crate::bindings::service::countersign::service::queue;
use crate::call::{Enqueued, misuse, queue_full};

const MESSAGES_MAX: u32 = 8;
const VARIABLES_MAX: usize = 16;
/// A message that waits longer than this serves nobody.
const DEADLINE_MAX: Duration = Duration::from_secs(72 * 3600);

impl queue::Host for Access<'_> {
    async fn enqueue(
        &mut self,
        job: queue::Job,
    ) -> wasmtime::Result<Result<String, queue::NotAdded>> {
        let view = self.view()?;
        view.may_write()?;
        count("messages", &mut view.run.used.messages, MESSAGES_MAX)?;
        check_bounds(&job)?;
        let Ok(to) = view.run.kept.phones.parse(&job.to, None) else {
            return misuse("a message to what is no number in E.164");
        };
        let challenge = match &job.challenge {
            None => None,
            Some(key) => {
                let key = view.key(key)?;
                match codes::newest(view.run, &key).await {
                    Ok(Some(challenge)) => Some(challenge),
                    Ok(None) => return misuse("a message for a challenge that is not live"),
                    Err(error) => return Err(view.run.failed(error)),
                }
            }
        };
        check_placeholders(&job, challenge.is_some())?;
        let now = view.run.transaction.instant();
        let deadline = UnixMillis(job.deadline);
        let job = Job {
            channel: job.channel,
            to: to.e164,
            country: to.country,
            line: to.kind,
            template: job.template,
            text: job.text,
            variables: job.variables,
            locale: job.locale,
            service: view.run.context.service.clone(),
            purpose: job.purpose,
            caller: view.run.context.caller.in_queue().to_owned(),
            deadline: challenge
                .as_ref()
                .map_or(deadline, |challenge| deadline.min(challenge.expires)),
            accepted: now,
            due: job.not_before.map_or(now, |due| UnixMillis(due).max(now)),
            priority: match job.priority {
                // Somebody waits for a code, whatever the component thinks of it.
                _ if challenge.is_some() => Priority::Urgent,
                queue::Priority::Urgent => Priority::Urgent,
                queue::Priority::Normal => Priority::Normal,
                queue::Priority::Bulk => Priority::Bulk,
            },
            challenge,
            attempts: Vec::new(),
            counts: Counts::default(),
        };
        if job.deadline > now + DEADLINE_MAX {
            return misuse("a message whose deadline is more than 72 hours away");
        }
        if job.due >= job.deadline {
            return misuse("a message that is due only at or after its deadline");
        }
        if job.deadline <= now {
            return misuse("a message whose deadline is over");
        }
        // A notice belongs to what is committed with it and must not undo that; whoever sends it is told.
        if job.challenge.is_some() {
            match view.run.host.queue.is_stopped(&job).await {
                Ok(false) => {}
                Ok(true) => return Ok(Err(queue::NotAdded::Stopped)),
                Err(error) => return Err(view.run.failed(error.into())),
            }
        }
        let place = match view.run.host.queue.reserve(&job, now) {
            Ok(place) => place,
            Err(reason) => {
                view.run.refused = Some(queue_full(reason));
                return misuse("the queue does not take it");
            }
        };
        let mut seed = [0; 32];
        view.run.random.fill_bytes(&mut seed);
        let drawn: &dyn Entropy = &SeededEntropy::new(seed);
        let id = MessageId::new(now, drawn);
        let (key, section) = match job_row(&view.run.host.keyring, id, &job) {
            Ok(row) => row,
            Err(error) => return Err(view.run.failed(error.into())),
        };
        if let Err(error) = view.run.transaction.set_host(&key, Some(section)).await {
            return Err(view.run.failed(error));
        }
        // Counted whoever asked for it, whatever the component says of it itself.
        view.run.transaction.emit(accepted_event(id, &job));
        view.run.enqueued.push(Enqueued { place, id });
        Ok(Ok(id.to_string()))
    }
}

fn check_bounds(job: &queue::Job) -> wasmtime::Result<()> {
    if job.channel != "sms" {
        return misuse("a message's channel must be `sms`");
    }
    bounded("a receiver", &job.to, 1, 16)?;
    bounded("a template's name", &job.template, 1, 64)?;
    bounded("a message's text", &job.text, 1, 1_600)?;
    bounded("a purpose", &job.purpose, 1, 64)?;
    if let Some(locale) = &job.locale {
        bounded("a locale", locale, 1, 35)?;
    }
    if job.variables.len() > VARIABLES_MAX {
        return misuse(format!("more than {VARIABLES_MAX} variables in a message"));
    }
    for (name, value) in &job.variables {
        bounded("a variable's name", name, 1, 32)?;
        bounded("a variable's value", value, 0, 512)?;
    }
    Ok(())
}

fn check_placeholders(job: &queue::Job, with_code: bool) -> wasmtime::Result<()> {
    let template = match Template::parse(&job.text) {
        Ok(template) => template,
        Err(error) => return misuse(error.to_string()),
    };
    for name in template.places() {
        let filled = match name {
            "code" | "minutes" => with_code,
            _ => job.variables.iter().any(|(variable, _)| variable == name),
        };
        if !filled {
            return misuse(format!("nothing fills the placeholder `{{{name}}}`"));
        }
    }
    Ok(())
}
