//! The form above the figures: range and filters, all of them in the address.

use maud::{Markup, html};

use super::view::{LAST, View};
use super::{country, words};
use crate::api::figures::Report;
use crate::dashboard::Range;

const DASHBOARD: &str = "/dashboard";

/// What the form shows beside what was asked for.
pub(super) struct Choices<'a> {
    /// The range as it was understood, where it was.
    pub(super) range: Option<&'a Range>,
    /// What was found.
    pub(super) report: Option<&'a Report>,
    /// The names of the configured providers.
    pub(super) providers: &'a [String],
    /// The field that is wrong, and why.
    pub(super) error: Option<(&'a str, &'a str)>,
}

/// The form.
pub(super) fn filters(view: &View, choices: &Choices) -> Markup {
    let (start, end) = dates(view, choices.range);
    html! {
        nav.ranges aria-label="Range" {
            @for (days, name) in LAST {
                @let text = days.to_string();
                @let changes = [("start", None), ("end", None), ("interval", None), ("last", Some(text.as_str()))];
                @let current = (view.last() == Some(days)).then_some("true");
                a href=(view.link(DASHBOARD, &changes)) aria-current=[current] { (name) }
            }
        }
        form.filters method="get" action=(DASHBOARD) aria-label="Range and filters" {
            (date("start", "From", &start, choices))
            (date("end", "To", &end, choices))
            (choice("country", "Country", choices, &countries(view, choices)))
            (choice("provider", "Provider", choices, &providers(view, choices)))
            (choice("interval", "Steps", choices, &intervals(view)))
            button.main type="submit" { "Show" }
        }
        @if let Some((_, error)) = choices.error {
            p.error id="error" role="alert" { (error) }
        }
        (chosen(view))
    }
}

/// What the fields of the range hold: what was asked for where it is a date, else the days of the range.
fn dates(view: &View, range: Option<&Range>) -> (String, String) {
    let last = |range: &Range| {
        let end = countersign_types::UnixMillis(range.end.0.saturating_sub(1));
        words::iso_date(end.max(range.start))
    };
    match range {
        Some(range) => (words::iso_date(range.start), last(range)),
        None => {
            let given = |name| view.get(name).unwrap_or("").to_owned();
            (given("start"), given("end"))
        }
    }
}

fn date(name: &str, label: &str, value: &str, choices: &Choices) -> Markup {
    let (invalid, described) = blame(name, choices);
    html! {
        div.field {
            label for=(name) { (label) }
            input id=(name) type="date" name=(name) value=(value) min="1970-01-01" max="9999-12-30"
                aria-invalid=[invalid] aria-describedby=[described];
        }
    }
}

/// Values and names in groups.
type Groups = Vec<(Option<&'static str>, Vec<(String, String, bool)>)>;

fn choice(name: &str, label: &str, choices: &Choices, groups: &Groups) -> Markup {
    let (invalid, described) = blame(name, choices);
    html! {
        div.field {
            label for=(name) { (label) }
            select id=(name) name=(name) aria-invalid=[invalid] aria-describedby=[described] {
                @for (group, options) in groups {
                    @if let Some(group) = group {
                        optgroup label=(group) { (options_of(options)) }
                    } @else {
                        (options_of(options))
                    }
                }
            }
        }
    }
}

fn options_of(options: &[(String, String, bool)]) -> Markup {
    html! {
        @for (value, name, selected) in options {
            option value=(value) selected[*selected] { (name) }
        }
    }
}

fn blame(name: &str, choices: &Choices) -> (Option<&'static str>, Option<&'static str>) {
    let is_wrong = choices.error.is_some_and(|(field, _)| field == name);
    (is_wrong.then_some("true"), is_wrong.then_some("error"))
}

/// Those with messages first, then all.
fn countries(view: &View, choices: &Choices) -> Groups {
    let chosen = view.get("country").unwrap_or("");
    let found = choices.report.map_or(&[][..], |report| &report.by_country);
    let found: Vec<&str> = found.iter().map(|of| of.country.as_str()).collect();
    let option = |code: &str| {
        (
            code.to_owned(),
            country::name(code).to_owned(),
            code == chosen,
        )
    };
    let mut here: Vec<_> = found.iter().map(|code| option(code)).collect();
    here.sort_by(|(_, one, _), (_, next, _)| one.cmp(next));
    let all = country::by_name().into_iter().map(|(code, _)| code);
    let all = all
        .chain([country::NO_COUNTRY])
        .filter(|code| !found.contains(code));
    let all: Vec<_> = all.map(option).collect();
    let mut groups = vec![(
        None,
        vec![(String::new(), "All countries".to_owned(), chosen.is_empty())],
    )];
    if !here.is_empty() {
        groups.push((Some("In this range"), here));
    }
    groups.push((Some("Others"), all));
    groups
}

/// The configured ones, and those that have messages without being configured any more.
fn providers(view: &View, choices: &Choices) -> Groups {
    let chosen = view.get("provider").unwrap_or("");
    let mut names: Vec<&str> = choices.providers.iter().map(String::as_str).collect();
    let found = choices.report.map_or(&[][..], |report| &report.by_provider);
    names.extend(found.iter().map(|of| of.provider.as_str()));
    names.push(chosen);
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    let names = names
        .into_iter()
        .map(|name| (name.to_owned(), name.to_owned(), name == chosen));
    let all = (String::new(), "All providers".to_owned(), chosen.is_empty());
    vec![(None, std::iter::once(all).chain(names).collect())]
}

fn intervals(view: &View) -> Groups {
    let chosen = view.get("interval").unwrap_or("");
    let all = [
        ("", "Automatic"),
        ("hour", "Hours"),
        ("day", "Days"),
        ("month", "Months"),
    ];
    let option = |(value, name): (&str, &str)| (value.to_owned(), name.to_owned(), value == chosen);
    vec![(None, all.into_iter().map(option).collect())]
}

/// The filters that are on, each with a way out.
fn chosen(view: &View) -> Markup {
    let filters = [("country", "Country"), ("provider", "Provider")];
    let filters = filters.into_iter().filter_map(|(name, label)| {
        let value = view.get(name)?;
        let shown = if name == "country" {
            country::name(value)
        } else {
            value
        };
        Some((name, label, shown))
    });
    let filters: Vec<_> = filters.collect();
    html! {
        @if !filters.is_empty() {
            ul.chosen aria-label="Filters" {
                @for (name, label, shown) in filters {
                    li {
                        (label) ": " b { (shown) } " "
                        a href=(view.link(DASHBOARD, &[(name, None)])) aria-label={ "Remove the filter " (label) ": " (shown) } { "remove" }
                    }
                }
            }
        }
    }
}
