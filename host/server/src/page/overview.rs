//! The dashboard: what became of messages, in figures and charts.

use countersign_types::UnixMillis;
use maud::{Markup, html};

use super::bars::{Bar, bars, share};
use super::filters::{Choices, filters};
use super::sheet::Sheet;
use super::shell::{Place, page};
use super::spans::{Span, spans};
use super::timeline::timeline;
use super::view::{View, goes_on};
use super::{country, words};
use crate::api::figures::{Conversion, Latency, Percentiles, Report};
use crate::dashboard::{Range, average, percent};

const DASHBOARD: &str = "/dashboard";
/// How often a page asks for fresh figures, in seconds, while somebody sees it.
const FRESH_S: u32 = 2;

/// What the page shows.
pub(crate) enum Shown<'a> {
    /// The figures of a range.
    Figures(&'a Range, &'a Report),
    /// What was asked for cannot be: the field to blame, and why.
    Refused(&'a str, &'a str),
}

/// The page.
pub(crate) struct Overview<'a> {
    pub(crate) view: &'a View,
    pub(crate) providers: &'a [String],
    pub(crate) now: UnixMillis,
    pub(crate) shown: Shown<'a>,
}

impl Overview<'_> {
    /// The page as HTML.
    pub(crate) fn page(&self) -> String {
        let (range, report, error) = match self.shown {
            Shown::Figures(range, report) => (Some(range), Some(report), None),
            Shown::Refused(field, error) => (None, None, Some((field, by_labels(error)))),
        };
        let error = error
            .as_ref()
            .map(|(field, error)| (*field, error.as_str()));
        let choices = Choices {
            range,
            report,
            providers: self.providers,
            error,
        };
        let content = html! {
            h1.unseen { "Dashboard" }
            (filters(self.view, &choices))
            @if let Shown::Figures(range, report) = self.shown {
                (self.figures(range, report))
            }
        };
        page(Place::Dashboard, "Dashboard", &content)
    }

    /// All that changes with time; a script puts a newer one in its place.
    fn figures(&self, range: &Range, report: &Report) -> Markup {
        html! {
            div id="figures" data-fresh=(FRESH_S) {
                div.asof {
                    h2 { (words::range(range.start, range.end)) }
                    p.muted {
                        "Days and hours are UTC. As of "
                        time datetime=(self.now.to_string()) { (words::Civil::of(self.now).clock()) } ". "
                        span id="live-state" role="status" {}
                        @if goes_on(range.end, self.now) {
                            button id="live" type="button" aria-pressed="true" hidden { "Live" }
                        }
                    }
                }
                div id="content" {
                    (tiles(report))
                    @if report.count == 0 {
                        (self.nothing())
                    } @else {
                        div.charts { (self.charts(range, report)) }
                        p.muted {
                            "All figures as "
                            a id="file-json" href=(self.view.link("/dashboard/figures.json", &[])) download="countersign.json" { "JSON" }
                            "; each table as CSV, below its chart."
                        }
                    }
                }
            }
        }
    }

    fn charts(&self, range: &Range, report: &Report) -> Markup {
        let interval = range.interval;
        let sheet = |make: fn(&Report, _) -> Sheet| make(report, interval);
        let countries = self.countries(report);
        let conversion = self.conversion(report);
        html! {
            (self.card("card wide", "Messages over time", &timeline(range, &report.timeline), &sheet(Sheet::timeline)))
            (self.card("card", "Countries by cost", &countries, &sheet(Sheet::countries)))
            div.stack {
                (self.card("card", "Statuses", &statuses(report), &sheet(Sheet::statuses)))
                (self.card("card", "Conversion by provider", &conversion, &sheet(Sheet::providers)))
            }
            (self.card("card wide", "How long messages took", &latency(report), &sheet(Sheet::latency)))
        }
    }

    /// A chart with its table.
    fn card(&self, class: &str, title: &str, chart: &Markup, sheet: &Sheet) -> Markup {
        let name = sheet.name;
        let file = self.view.link(&format!("{DASHBOARD}/{name}.csv"), &[]);
        html! {
            section class=(class) aria-labelledby={ "title-" (name) } {
                h3 id={ "title-" (name) } { (title) }
                (chart)
                details id={ "data-" (name) } {
                    summary { "Table" span.unseen { ": " (title) } }
                    (sheet.table(title))
                    p {
                        a id={ "file-" (name) } href=(file) download={ "countersign-" (name) ".csv" } {
                            "CSV" span.unseen { " of " (title) }
                        }
                    }
                }
            }
        }
    }

    fn countries(&self, report: &Report) -> Markup {
        let most = report
            .by_country
            .iter()
            .map(|of| of.cost.total)
            .max()
            .unwrap_or(0);
        let bar = |of: &crate::api::figures::CountryFigures| {
            let link = self.view.link(DASHBOARD, &[("country", Some(&of.country))]);
            let known = of.cost.total.saturating_sub(of.cost.estimated);
            Bar {
                name: html! { a href=(link) { (country::name(&of.country)) } },
                parts: vec![
                    ("cost", share(known, most)),
                    ("estimated", share(of.cost.estimated, most)),
                ],
                value: words::money(of.cost.total, &report.currency),
                note: words::messages(of.count),
            }
        };
        let all: Vec<Bar> = report.by_country.iter().map(bar).collect();
        html! {
            (bars("Countries by cost", &all))
            @if report.cost.estimated > 0 {
                ul.legend { li.cost { "Told by the provider" } li.estimated { "Estimated" } }
            }
        }
    }

    fn conversion(&self, report: &Report) -> Markup {
        let bar = |of: &crate::api::figures::ProviderFigures| {
            let conversion = of.conversion;
            let link = self
                .view
                .link(DASHBOARD, &[("provider", Some(&of.provider))]);
            Bar {
                name: html! {
                    @if of.provider.is_empty() { "none yet" } @else { a href=(link) { (of.provider) } }
                },
                parts: vec![("verified", share(conversion.verified, conversion.sent))],
                value: percent(conversion.verified, conversion.sent),
                note: codes(conversion),
            }
        };
        let all: Vec<Bar> = report.by_provider.iter().map(bar).collect();
        bars("Codes verified, by provider", &all)
    }

    /// What is said where there is nothing to draw.
    fn nothing(&self) -> Markup {
        let is_filtered = ["country", "provider"]
            .iter()
            .any(|name| self.view.get(name).is_some());
        let unfiltered = self
            .view
            .link(DASHBOARD, &[("country", None), ("provider", None)]);
        let range = [
            ("start", None),
            ("end", None),
            ("interval", None),
            ("last", Some("365")),
        ];
        html! {
            section.card.empty {
                h3 { "No messages in this range" }
                @if is_filtered {
                    p { "None that the filters let through. " a href=(unfiltered) { "Show all messages of this range" } "." }
                }
                p {
                    a href=(self.view.link(DASHBOARD, &range)) { "Look at the last 12 months" }
                    ", or send one: it appears here within a second of " code { "POST /api/otp/send" } "."
                }
            }
        }
    }
}

/// A refusal in the words of the form: fields by their labels, and no example of an address.
fn by_labels(error: &str) -> String {
    let (error, _) = error.split_once("; a good range is").unwrap_or((error, ""));
    let labels = [
        ("`start`", "“From”"),
        ("`end`", "“To”"),
        ("`country`", "“Country”"),
        ("`provider`", "“Provider”"),
        ("`interval`", "“Steps”"),
    ];
    let named = labels.iter();
    named.fold(error.to_owned(), |error, (name, label)| {
        error.replace(name, label)
    })
}

/// The sums.
fn tiles(report: &Report) -> Markup {
    let cost = &report.cost;
    let conversion = report.conversion;
    let mut about_cost = Vec::new();
    if cost.estimated > 0 {
        about_cost.push(format!(
            "{} of it estimated",
            percent(cost.estimated, cost.total)
        ));
    }
    if report.unpriced > 0 {
        about_cost.push(format!(
            "{} without a price",
            words::messages(report.unpriced)
        ));
    }
    let foreign = report.unconverted.iter();
    about_cost.extend(
        foreign.map(|of| format!("without {}: no rate", words::money(of.amount, &of.currency))),
    );
    let rates = [
        (
            "Delivered",
            report.delivered,
            report.count,
            words::messages(report.delivered),
        ),
        (
            "Failed",
            report.failed,
            report.count,
            words::messages(report.failed),
        ),
        (
            "Conversion",
            conversion.verified,
            conversion.sent,
            codes(conversion),
        ),
    ];
    let average = format!("{} {}", report.currency, average(cost.total, report.count));
    html! {
        dl.tiles {
            (tile("Messages", &html! { (words::count(report.count)) }, ""))
            @for (name, part, whole, note) in rates {
                (tile(name, &html! { (percent(part, whole)) }, &note))
            }
            (tile("Cost", &amount(&words::money(cost.total, &report.currency)), &about_cost.join("; ")))
            (tile("Cost of a message", &amount(&average), "on average"))
        }
    }
}

fn tile(name: &str, value: &Markup, note: &str) -> Markup {
    html! {
        div.tile { dt { (name) } dd { b { (value) } small { (note) } } }
    }
}

/// An amount with its currency in small.
fn amount(text: &str) -> Markup {
    let (currency, number) = text.split_once(' ').unwrap_or(("", text));
    html! { span.unit { (currency) } " " (number) }
}

fn codes(conversion: Conversion) -> String {
    let (verified, sent) = (conversion.verified, conversion.sent);
    format!("{} of {} codes", words::count(verified), words::count(sent))
}

fn statuses(report: &Report) -> Markup {
    let most = report
        .by_status
        .iter()
        .map(|of| of.count)
        .max()
        .unwrap_or(0);
    let bar = |of: &crate::api::figures::StatusFigures| Bar {
        name: html! { span.word { (of.status) } },
        parts: vec![(class_of(&of.status), share(of.count, most))],
        value: words::count(of.count),
        note: percent(of.count, report.count),
    };
    let all: Vec<Bar> = report.by_status.iter().map(bar).collect();
    bars("Messages by status", &all)
}

/// How a status looks: it went well, it is on its way, or it did not arrive.
pub(super) fn class_of(status: &str) -> &'static str {
    match status {
        "delivered" | "read" => "delivered",
        "queued" | "sent" => "underway",
        "unknown" => "rest",
        _ => "bad",
    }
}

fn latency(report: &Report) -> Markup {
    let of = |way: fn(&Latency) -> Percentiles| {
        let each = report
            .by_provider
            .iter()
            .filter(|of| !of.provider.is_empty());
        let each = each.map(move |of| Span {
            name: &of.provider,
            of: way(&of.latency),
        });
        let all = Span {
            name: "all",
            of: way(&report.latency),
        };
        let mut spans: Vec<Span> = each.collect();
        // Of one provider it would be the same once more.
        if spans.len() != 1 {
            spans.insert(0, all);
        }
        spans
    };
    html! {
        div.pair {
            div {
                h4 { "Until a provider had it" }
                (spans("From queued to sent", &of(|latency| latency.queue)))
            }
            div {
                h4 { "From there until it was delivered" }
                (spans("From sent to delivered", &of(|latency| latency.delivery)))
            }
        }
        p.muted { "Half of the messages took no longer than p50, 95 of a hundred no longer than p95." }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::figures::{
        Cost, CountryFigures, Interval, ProviderFigures, StatusFigures, Step, Unconverted,
    };

    /// 2026-01-31T12:00:00Z.
    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);
    const DAY_MS: u64 = 24 * 3_600_000;
    /// 2026-01-01T00:00:00Z.
    const START: u64 = 1_767_225_600_000;

    fn took(count: u64, p50: u64, p95: u64, p99: u64) -> Percentiles {
        Percentiles {
            count,
            p50,
            p95,
            p99,
        }
    }

    /// Something to show.
    pub(in crate::page) fn report() -> Report {
        let cost = |total, estimated| Cost { total, estimated };
        let country = |code: &str, count, total, estimated| CountryFigures {
            country: code.to_owned(),
            count,
            cost: cost(total, estimated),
        };
        let status = |word: &str, count| StatusFigures {
            status: word.to_owned(),
            count,
        };
        let delivery = took(2_181, 2_100, 6_400, 14_200);
        let provider =
            |name: &str, count, delivered, failed, total, conversion, queue| ProviderFigures {
                provider: name.to_owned(),
                count,
                delivered,
                failed,
                cost: cost(total, 0),
                conversion,
                latency: Latency { queue, delivery },
            };
        let conversion = |sent, verified| Conversion { sent, verified };
        let step = |day: u64, count, delivered| Step {
            start: START + day * DAY_MS,
            count,
            delivered,
        };
        Report {
            count: 2_234,
            delivered: 2_181,
            failed: 12,
            currency: "USD".to_owned(),
            cost: cost(14_052_000, 550_500),
            unpriced: 3,
            unconverted: vec![Unconverted {
                currency: "JPY".to_owned(),
                amount: 7_000_000,
            }],
            by_country: vec![
                country("US", 1_500, 11_850_000, 0),
                country("IN", 734, 2_202_000, 550_500),
            ],
            by_status: vec![
                status("delivered", 2_181),
                status("failed", 12),
                status("sent", 41),
            ],
            by_provider: vec![
                provider(
                    "twilio-main",
                    2_000,
                    1_960,
                    3,
                    13_350_000,
                    conversion(1_900, 1_501),
                    took(0, 0, 0, 0),
                ),
                provider(
                    "backup",
                    234,
                    221,
                    9,
                    702_000,
                    conversion(200, 130),
                    took(234, 40, 90, 400),
                ),
            ],
            conversion: conversion(2_100, 1_631),
            latency: Latency {
                queue: took(2_234, 45, 120, 800),
                delivery,
            },
            timeline: vec![step(0, 1_000, 970), step(2, 1_234, 1_211)],
        }
    }

    fn range() -> Range {
        Range {
            start: UnixMillis(START),
            end: UnixMillis(START + 31 * DAY_MS),
            interval: Interval::Day,
        }
    }

    fn shown(query: &str, shown: Shown) -> String {
        let view = View::of(query);
        let providers = ["backup".to_owned(), "twilio-main".to_owned()];
        Overview {
            view: &view,
            providers: &providers,
            now: NOW,
            shown,
        }
        .page()
    }

    #[test]
    fn every_chart_has_its_figures_in_words_and_in_a_table() {
        let page = shown(
            "start=2026-01-01&end=2026-01-31",
            Shown::Figures(&range(), &report()),
        );
        for words in [
            "<h2>1 Jan 2026 to 31 Jan 2026</h2>",
            "<b>97.63%</b>",
            "<span class=\"unit\">USD</span> 14.05",
            "3.92% of it estimated; 3 messages without a price; without JPY 7.00: no rate",
            "3 Jan 2026: 1,234 messages, 1,211 delivered (98.14%)",
            ">United States</a>",
            "1,501 of 1,900 codes",
            "<b>6.4 s</b>",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        for name in ["timeline", "countries", "statuses", "providers", "latency"] {
            let file =
                format!("href=\"/dashboard/{name}.csv?start=2026-01-01&amp;end=2026-01-31\"");
            assert!(page.contains(&file), "{file}");
            assert!(
                page.contains(&format!("<details id=\"data-{name}\">")),
                "{name}"
            );
        }
    }

    #[test]
    fn nothing_in_the_page_is_forbidden_by_its_policy_or_comes_from_elsewhere() {
        let page = shown("", Shown::Figures(&range(), &report()));
        for forbidden in [
            "style=",
            "<style",
            "onclick",
            "javascript:",
            "http:",
            "https:",
            "src=\"//",
        ] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn a_refusal_stands_at_its_field_and_there_are_no_figures() {
        let page = shown(
            "start=x&end=2026-01-31",
            Shown::Refused("start", "`start` must be <a date>; a good range is x"),
        );
        assert!(
            page.contains("role=\"alert\">“From” must be &lt;a date&gt;</p>"),
            "{page}"
        );
        assert!(page.contains("name=\"start\" value=\"x\""), "{page}");
        assert!(
            page.contains("aria-invalid=\"true\" aria-describedby=\"error\""),
            "{page}"
        );
        assert!(!page.contains("id=\"figures\""), "{page}");
    }

    #[test]
    fn an_empty_range_says_what_can_be_done() {
        let mut report = report();
        report.count = 0;
        let page = shown("country=FR", Shown::Figures(&range(), &report));
        assert!(
            page.contains("No messages in this range") && !page.contains("class=\"charts\""),
            "{page}"
        );
        assert!(
            page.contains("href=\"/dashboard\">Show all messages"),
            "{page}"
        );
        assert!(
            page.contains("<option value=\"FR\" selected>France</option>"),
            "{page}"
        );
        let page = shown("", Shown::Figures(&range(), &report));
        assert!(!page.contains("the filters let through"), "{page}");
    }

    #[test]
    fn names_from_elsewhere_are_text() {
        let mut report = report();
        let evil = "<script>\"'&";
        report.by_country[0].country = evil.to_owned();
        report.by_status[0].status = evil.to_owned();
        report.by_provider[0].provider = evil.to_owned();
        report.currency = evil.to_owned();
        let page = shown("", Shown::Figures(&range(), &report));
        assert_eq!(page.matches("<script").count(), 1, "our own alone");
    }

    #[test]
    fn filters_that_are_on_can_be_removed() {
        let page = shown(
            "last=7&country=US&provider=old",
            Shown::Figures(&range(), &report()),
        );
        assert!(page.contains("Country: <b>United States</b>"), "{page}");
        assert!(
            page.contains("href=\"/dashboard?last=7&amp;provider=old\""),
            "{page}"
        );
        assert!(
            page.contains("<option value=\"old\" selected>old</option>"),
            "{page}"
        );
        assert!(page.contains("aria-current=\"true\">7 days</a>"), "{page}");
    }
}
