//! What users are told by a message to their phone, so that they notice what they did not do themselves.

use crate::host::{Host, Instant, Notice};
use crate::settings::{DAY, HOUR};
use crate::user::Session;

/// To the number that the user had before.
pub(crate) fn number_changed<H: Host>(session: &mut Session<'_, H>, to: String) {
    let text = session.settings.notices.number.clone();
    send(session, to, "notice-number", text, Vec::new());
}

/// To the number that the user has, or had until now.
pub(crate) fn disabled<H: Host>(session: &mut Session<'_, H>, to: String) {
    let text = session.settings.notices.disabled.clone();
    send(session, to, "notice-disabled", text, Vec::new());
}

/// To the user's number, where they have one.
pub(crate) fn backup_code_used<H: Host>(session: &mut Session<'_, H>, left: u32) {
    let text = session.settings.notices.backup_code.clone();
    if let Some(to) = session.user.phone.clone() {
        let variables = vec![("left", left.to_string())];
        send(session, to, "notice-backup-code", text, variables);
    }
}

/// To the user's number, where they have one, at most once in an hour. Says whether there were so many
/// failures that there is something to tell.
pub(crate) fn repeated_failures<H: Host>(session: &mut Session<'_, H>) -> bool {
    if session.user.misses.len() < session.settings.misses_before_notice {
        return false;
    }
    let told = |at: Instant| at.saturating_add(HOUR) > session.now;
    if session.user.noticed.is_some_and(told) {
        return false;
    }
    session.user.noticed = Some(session.now);
    let text = session.settings.notices.failures.clone();
    if let Some(to) = session.user.phone.clone() {
        send(session, to, "notice-failures", text, Vec::new());
    }
    true
}

fn send<H: Host>(
    session: &mut Session<'_, H>,
    to: String,
    template: &'static str,
    text: String,
    variables: Vec<(&'static str, String)>,
) {
    // The operator wants none.
    if text.is_empty() {
        return;
    }
    session.host.enqueue(Notice {
        to,
        template,
        text,
        variables,
        deadline: session.now.saturating_add(DAY),
    });
}
