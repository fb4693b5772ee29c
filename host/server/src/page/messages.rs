//! Messages: found by number and time, and one of them with all that became of it.
//!
//! Numbers are masked. The whole one is shown after a button that leaves a trace, and can be read in no
//! address.

use countersign_types::UnixMillis;
use maud::{Markup, html};

use super::shell::{Place, page};
use super::{Sought, Typed, country, words};
use crate::lookup;
use crate::story::{News, Story, Trouble, Try};

const MESSAGES: &str = "/dashboard/messages";

/// What was found, and the address of older messages, where there may be any.
pub(crate) fn found(sought: &Sought, page: &lookup::Page, older: Option<&str>) -> String {
    messages(&sought.typed, "", None, &list(sought, page, older))
}

/// Nothing was looked for: the field to blame, and why. `id` is what was typed for that of a message.
pub(crate) fn refused(typed: &Typed, id: &str, error: (&str, &str)) -> String {
    messages(typed, id, Some(error), &html! {})
}

/// The page with the form.
fn messages(typed: &Typed, id: &str, error: Option<(&str, &str)>, list: &Markup) -> String {
    let content = html! {
        h1 { "Messages" }
        form.filters.search method="post" action=(MESSAGES) aria-label="Search" {
            (field("phone", "Phone number", "tel", &typed.phone, error))
            (field("start", "From", "date", &typed.start, error))
            (field("end", "To", "date", &typed.end, error))
            (field("id", "Or a message’s id", "text", id, error))
            button.main type="submit" { "Search" }
        }
        @if let Some((_, error)) = error {
            p.error id="error" role="alert" { (error) }
        }
        (list)
    };
    page(Place::Messages, "Messages", &content)
}

fn field(name: &str, label: &str, kind: &str, value: &str, error: Option<(&str, &str)>) -> Markup {
    let is_wrong = error.is_some_and(|(field, _)| field == name);
    let (invalid, described) = (is_wrong.then_some("true"), is_wrong.then_some("error"));
    html! {
        div.field {
            label for=(name) { (label) }
            input id=(name) type=(kind) name=(name) value=(value) autocomplete="off" spellcheck="false"
                aria-invalid=[invalid] aria-describedby=[described];
        }
    }
}

fn list(sought: &Sought, page: &lookup::Page, older: Option<&str>) -> Markup {
    let is_all = sought.typed == Typed::default();
    let title = match sought.after {
        None if is_all => "The newest",
        None => "Found",
        Some(_) => "Older",
    };
    html! {
        section.card.found aria-labelledby="found" {
            h2 id="found" { (title) }
            @if !page.messages.is_empty() {
                (table(&page.messages))
            } @else if older.is_some() {
                // One search looks at a bounded number of rows.
                p { "None among those that were looked at until now. Older ones have not been looked at yet." }
            } @else if is_all {
                p { "No messages yet. One is here as soon as it is accepted." }
            } @else {
                p { "No messages. They are kept for a while after their end, and until their number is erased." }
            }
            @if let Some(older) = older {
                p { a rel="next" href=(older) { "Older messages" } }
            }
        }
    }
}

fn table(messages: &[Story]) -> Markup {
    html! {
        div.scroll id="scroll-messages" role="region" aria-label="Messages" tabindex="0" {
            table {
                caption.unseen { "Messages, the newest first" }
                thead {
                    tr {
                        @for head in ["Accepted (UTC)", "To", "Status", "Country", "Provider", "Template"] {
                            th scope="col" { (head) }
                        }
                    }
                }
                tbody {
                    @for message in messages {
                        tr {
                            th scope="row" {
                                a href={ (MESSAGES) "/" (message.id) } { (moment(&message.accepted_at)) }
                            }
                            td { (message.to) }
                            td { (status(&message.status)) }
                            td { (country::name(&message.country)) }
                            td { (message.provider.as_deref().unwrap_or("–")) }
                            td { (message.template) }
                        }
                    }
                }
            }
        }
    }
}

/// A message's story; `number` is the whole number, where it was asked for.
pub(crate) fn story(story: &Story, number: Option<&str>) -> String {
    let content = html! {
        p { a href=(MESSAGES) { "All messages" } }
        h1 { "A message to " (number.unwrap_or(&story.to)) }
        section.card.story aria-labelledby="facts" {
            h2 id="facts" { "What is known" }
            dl.facts {
                @for (name, value) in facts(story) {
                    div { dt { (name) } dd { (value) } }
                }
            }
            (whole_number(story, number))
        }
        section.card.story aria-labelledby="course" {
            h2 id="course" { "What happened" }
            ol.course {
                @for (at, what) in course(story) {
                    li { time datetime=(at) { (moment(at)) } " " (what) }
                }
            }
        }
    };
    page(Place::Messages, "A message", &content)
}

fn whole_number(story: &Story, number: Option<&str>) -> Markup {
    html! {
        @if let Some(number) = number {
            p role="status" { "The whole number is " b { (number) } ". That it was shown is in the audit trail." }
        } @else {
            form method="post" action={ (MESSAGES) "/" (story.id) "/reveal" } {
                button type="submit" aria-describedby="trace" { "Show the whole number" }
                small id="trace" { "That it was shown goes into the audit trail." }
            }
        }
    }
}

/// What stays the same, by name; what is not known is left out.
fn facts(story: &Story) -> Vec<(&'static str, Markup)> {
    let text = |text: &str| html! { (text) };
    let time = |at: &Option<String>| at.as_deref().map(|at| html! { (moment(at)) });
    let price = story.price.as_ref();
    let facts = [
        ("Id", Some(html! { code { (story.id) } })),
        ("Status", Some(status(&story.status))),
        ("To", Some(text(&story.to))),
        ("Country", Some(text(country::name(&story.country)))),
        ("Template", Some(text(&story.template))),
        (
            "Purpose",
            Some(text(&story.purpose)).filter(|_| !story.purpose.is_empty()),
        ),
        ("Priority", Some(text(&story.priority))),
        (
            "Asked for by",
            Some(text(&story.caller)).filter(|_| !story.caller.is_empty()),
        ),
        ("Not before", time(&story.not_before)),
        ("Deadline", time(&story.deadline)),
        ("Provider", story.provider.as_deref().map(text)),
        (
            "Segments",
            story.segments.map(|segments| html! { (segments) }),
        ),
        (
            "Price",
            price.map(|price| html! { (price.currency) " " (price.amount) }),
        ),
        ("Given up because", story.reason.as_deref().map(text)),
    ];
    let known = facts.into_iter();
    known
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// What happened, in order.
fn course(story: &Story) -> Vec<(&str, Markup)> {
    let mut course = vec![(
        story.accepted_at.as_str(),
        html! { "accepted by this server" },
    )];
    let tries = story.attempts.iter().map(|of| (of.at.as_str(), tried(of)));
    course.extend(tries);
    let news = story.receipts.iter().map(|of| (of.at.as_str(), told(of)));
    course.extend(news);
    if let Some(at) = &story.replayed_at {
        course.push((at, html! { "put back into the queue by an operator" }));
    }
    if let Some(at) = &story.ended_at {
        course.push((at, html! { "over: " (status(&story.status)) }));
    }
    // RFC 3339 in UTC sorts by its letters, and what was at once stays as it is.
    course.sort_by_key(|(at, _)| *at);
    course
}

fn tried(of: &Try) -> Markup {
    let what = match of.outcome.as_str() {
        "started" => "handed over to ",
        "accepted" => "accepted by ",
        _ => "not taken by ",
    };
    html! { (what) b { (of.provider) } (trouble(of.error.as_ref())) }
}

fn told(of: &News) -> Markup {
    html! { "receipt: " (status(&of.status)) (trouble(of.error.as_ref())) }
}

fn trouble(error: Option<&Trouble>) -> Markup {
    html! {
        @if let Some(Trouble { class, provider_code, reason }) = error {
            ": " (class)
            @if let Some(code) = provider_code { ", code " (code) }
            @if !reason.is_empty() { ", “" (reason) "”" }
        }
    }
}

fn status(word: &str) -> Markup {
    html! { span class={ "status " (super::overview::class_of(word)) } { (word) } }
}

/// A time of RFC 3339 as people read it.
fn moment(at: &str) -> String {
    match at.parse::<UnixMillis>() {
        Ok(time) => {
            let civil = words::Civil::of(time);
            format!("{}, {}", civil.date(), civil.clock())
        }
        Err(_) => at.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    fn one(with: Value) -> Story {
        let mut story = json!({
            "id": "01a22797d903c193129b1af2c000bf02", "status": "delivered", "to": "+1202•••••26",
            "country": "US", "template": "code", "purpose": "verification", "priority": "code",
            "caller": "shop", "acceptedAt": "2026-01-31T12:00:00Z", "attempts": [], "receipts": [],
        });
        let members = with.as_object().expect("an object").clone();
        story.as_object_mut().expect("an object").extend(members);
        serde_json::from_value(story).expect("a story")
    }

    #[test]
    fn what_happened_is_told_in_order() {
        let told = one(json!({
            "attempts": [
                {"at": "2026-01-31T12:00:01Z", "provider": "first", "outcome": "failed", "class": "retryable", "providerCode": "20500", "reason": "<down>"},
                {"at": "2026-01-31T12:00:02Z", "provider": "second", "outcome": "accepted"},
            ],
            "receipts": [{"at": "2026-01-31T12:00:05Z", "status": "delivered"}],
            "replayedAt": "2026-01-31T12:00:01Z",
            "endedAt": "2026-01-31T12:00:05Z",
        }));
        let course = course(&told);
        let words: Vec<String> = course.iter().map(|(_, what)| plain(what)).collect();
        let want = [
            "accepted by this server",
            "not taken by first: retryable, code 20500, “&lt;down&gt;”",
            "put back into the queue by an operator",
            "accepted by second",
            "receipt: delivered",
            "over: delivered",
        ];
        assert_eq!(words, want);
    }

    /// Without its elements.
    fn plain(what: &Markup) -> String {
        let mut text = String::new();
        for part in what.0.split('<') {
            text += part.split_once('>').map_or(part, |(_, rest)| rest);
        }
        text
    }

    #[test]
    fn words_from_elsewhere_are_text() {
        let evil = "<script>\"'&";
        let names = ["to", "country", "template", "purpose", "priority", "caller"];
        let names = names.into_iter().chain(["status", "provider", "reason"]);
        let mut all: Map<String, Value> =
            names.map(|name| (name.to_owned(), json!(evil))).collect();
        let trouble = json!({
            "at": evil, "provider": evil, "status": evil, "outcome": evil, "class": evil,
            "providerCode": evil, "reason": evil,
        });
        all.insert(
            "price".to_owned(),
            json!({"amount": evil, "currency": evil}),
        );
        for name in ["attempts", "receipts"] {
            all.insert(name.to_owned(), json!([trouble]));
        }
        for name in [
            "acceptedAt",
            "notBefore",
            "deadline",
            "endedAt",
            "replayedAt",
        ] {
            all.insert(name.to_owned(), json!(evil));
        }
        let page = lookup::Page {
            messages: vec![one(Value::Object(all.clone()))],
            next: None,
        };
        for shown in [
            story(&one(Value::Object(all)), Some(evil)),
            found(&sought(evil), &page, Some(evil)),
            refused(&sought(evil).typed, evil, (evil, evil)),
        ] {
            assert_eq!(
                shown.matches("<script").count(),
                1,
                "our own alone: {shown}"
            );
            assert!(shown.contains("&lt;script&gt;&quot;"), "{shown}");
        }
    }

    #[test]
    fn nothing_stands_in_a_page_that_the_policy_forbids() {
        let page = lookup::Page {
            messages: vec![one(json!({}))],
            next: None,
        };
        for shown in [
            story(&one(json!({})), None),
            found(&sought(""), &page, None),
        ] {
            for forbidden in [
                "style=",
                "<style",
                "onclick",
                "javascript:",
                "http:",
                "https:",
            ] {
                assert!(!shown.contains(forbidden), "{forbidden}");
            }
        }
    }

    #[test]
    fn a_number_is_masked_until_it_is_asked_for() {
        let masked = story(&one(json!({})), None);
        assert!(
            masked.contains("+1202•••••26") && masked.contains("/reveal"),
            "{masked}"
        );
        let whole = story(&one(json!({})), Some("+12025550126"));
        assert!(
            whole.contains("<b>+12025550126</b>") && !whole.contains("/reveal"),
            "{whole}"
        );
    }

    fn sought(phone: &str) -> Sought {
        Sought {
            typed: Typed {
                phone: phone.to_owned(),
                ..Typed::default()
            },
            after: None,
        }
    }

    #[test]
    fn what_was_looked_for_stays_in_the_form_and_is_in_no_address() {
        let sought = sought("+12025550126");
        let page = lookup::Page {
            messages: vec![one(json!({}))],
            next: Some("ab".repeat(16)),
        };
        let shown = found(&sought, &page, Some("/dashboard/messages?search=x"));
        assert!(
            shown.contains("name=\"phone\" value=\"+12025550126\""),
            "{shown}"
        );
        assert_eq!(shown.matches("2025550126").count(), 1, "{shown}");
        assert!(!shown.contains("method=\"get\""), "{shown}");
        let older = "<a rel=\"next\" href=\"/dashboard/messages?search=x\">Older messages</a>";
        assert!(shown.contains(older), "{shown}");
    }

    #[test]
    fn no_messages_are_told_apart_from_those_that_were_not_looked_at_yet() {
        let none = lookup::Page {
            messages: vec![],
            next: None,
        };
        let shown = |phone: &str, older: Option<&str>| found(&sought(phone), &none, older);
        let none = shown("+12025550126", None);
        assert!(none.contains("No messages. They are kept"), "{none}");
        assert!(!none.contains("Older messages"), "{none}");
        let unseen = shown("+12025550126", Some("/dashboard/messages?search=x"));
        assert!(!unseen.contains("No messages"), "{unseen}");
        assert!(unseen.contains("Older messages"), "{unseen}");
        let first = shown("", None);
        assert!(first.contains("No messages yet."), "{first}");
    }

    #[test]
    fn what_was_typed_and_is_wrong_stays_and_is_told() {
        let typed = sought("<1>").typed;
        let shown = refused(&typed, "<2>", ("phone", "Invalid phone number"));
        assert!(shown.contains("value=\"&lt;2&gt;\""), "{shown}");
        assert!(
            shown.contains("value=\"&lt;1&gt;\"") && shown.contains("aria-invalid=\"true\""),
            "{shown}"
        );
        assert!(
            shown.contains("role=\"alert\">Invalid phone number"),
            "{shown}"
        );
    }
}
