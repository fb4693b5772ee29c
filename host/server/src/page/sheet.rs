//! The figures of one chart as a table: the one under it, and the CSV file.

use countersign_types::UnixMillis;
use maud::{Markup, html};

use super::{country, words};
use crate::api::figures::{Interval, Percentiles, Report};
use crate::dashboard::percent;

/// One table.
#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    /// The name of its file.
    pub(crate) name: &'static str,
    pub(super) heads: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// What stands in a table; the first of a row is its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Text(String),
    /// For people, and for machines.
    Named(String, String),
    Count(u64),
    /// Millionths, and the currency.
    Money(u64, String),
    /// A part, and of what.
    Share(u64, u64),
    /// Milliseconds.
    Span(u64),
    /// There is none.
    Nothing,
}

impl Cell {
    fn shown(&self) -> String {
        match self {
            Cell::Text(text) | Cell::Named(text, _) => text.clone(),
            Cell::Count(number) => words::count(*number),
            Cell::Money(micros, currency) => words::money(*micros, currency),
            Cell::Share(part, whole) => percent(*part, *whole),
            Cell::Span(ms) => words::span(*ms),
            Cell::Nothing => "–".to_owned(),
        }
    }

    fn plain(&self) -> String {
        match self {
            Cell::Text(text) | Cell::Named(_, text) => text.clone(),
            Cell::Count(number) | Cell::Span(number) => number.to_string(),
            Cell::Money(micros, _) => words::decimal(*micros),
            Cell::Share(part, whole) => percent(*part, *whole).trim_end_matches('%').to_owned(),
            Cell::Nothing => String::new(),
        }
    }

    fn is_number(&self) -> bool {
        !matches!(self, Cell::Text(_) | Cell::Named(..))
    }
}

/// Makes a table of a report, whose timeline has these steps.
type Make = fn(&Report, Interval) -> Sheet;

/// The names of all tables, as their files are called.
const ALL: [(&str, Make); 5] = [
    ("timeline", Sheet::timeline),
    ("countries", Sheet::countries),
    ("statuses", Sheet::statuses),
    ("providers", Sheet::providers),
    ("latency", Sheet::latency),
];

impl Sheet {
    /// How the table of that name is made.
    pub(crate) fn named(name: &str) -> Option<Make> {
        let found = ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, make)| make)
    }

    pub(super) fn timeline(report: &Report, interval: Interval) -> Sheet {
        let step = match interval {
            Interval::Hour => "Hour (UTC)",
            Interval::Day => "Day (UTC)",
            Interval::Month => "Month (UTC)",
        };
        let row = |step: &crate::api::figures::Step| {
            let start = UnixMillis(step.start);
            let name = Cell::Named(words::step(start, interval), start.to_string());
            let share = Cell::Share(step.delivered, step.count);
            vec![
                name,
                Cell::Count(step.count),
                Cell::Count(step.delivered),
                share,
            ]
        };
        Sheet {
            name: "timeline",
            heads: heads(&[step, "Messages", "Delivered", "Delivered (%)"]),
            rows: report.timeline.iter().map(row).collect(),
        }
    }

    pub(super) fn countries(report: &Report, _: Interval) -> Sheet {
        let money = |micros| Cell::Money(micros, report.currency.clone());
        let rows = report.by_country.iter().map(|of| {
            vec![
                Cell::Named(country::name(&of.country).to_owned(), of.country.clone()),
                Cell::Count(of.count),
                money(of.cost.total),
                money(of.cost.estimated),
            ]
        });
        let (cost, estimated) = costs(report);
        Sheet {
            name: "countries",
            heads: heads(&["Country", "Messages", &cost, &estimated]),
            rows: rows.collect(),
        }
    }

    pub(super) fn statuses(report: &Report, _: Interval) -> Sheet {
        let rows = report.by_status.iter().map(|of| {
            let share = Cell::Share(of.count, report.count);
            vec![Cell::Text(of.status.clone()), Cell::Count(of.count), share]
        });
        Sheet {
            name: "statuses",
            heads: heads(&["Status", "Messages", "Share (%)"]),
            rows: rows.collect(),
        }
    }

    pub(super) fn providers(report: &Report, _: Interval) -> Sheet {
        let rows = report.by_provider.iter().map(|of| {
            let conversion = of.conversion;
            vec![
                provider(&of.provider),
                Cell::Count(of.count),
                Cell::Count(of.delivered),
                Cell::Count(of.failed),
                Cell::Money(of.cost.total, report.currency.clone()),
                Cell::Count(conversion.sent),
                Cell::Count(conversion.verified),
                Cell::Share(conversion.verified, conversion.sent),
            ]
        });
        let (cost, _) = costs(report);
        let names = [
            "Provider",
            "Messages",
            "Delivered",
            "Failed",
            &cost,
            "Codes sent",
            "Codes verified",
            "Conversion (%)",
        ];
        Sheet {
            name: "providers",
            heads: heads(&names),
            rows: rows.collect(),
        }
    }

    pub(super) fn latency(report: &Report, _: Interval) -> Sheet {
        let row = |name: Cell, way: &str, of: Percentiles| {
            let span = |ms| {
                if of.count == 0 {
                    Cell::Nothing
                } else {
                    Cell::Span(ms)
                }
            };
            let way = Cell::Text(way.to_owned());
            let [p50, p95, p99] = [of.p50, of.p95, of.p99].map(span);
            vec![name, way, Cell::Count(of.count), p50, p95, p99]
        };
        let whole = (Cell::Text("all".to_owned()), report.latency);
        let each = report.by_provider.iter();
        let each = each.map(|of| (provider(&of.provider), of.latency));
        let rows = std::iter::once(whole).chain(each).flat_map(|(name, of)| {
            [
                row(name.clone(), "queued to sent", of.queue),
                row(name, "sent to delivered", of.delivery),
            ]
        });
        let names = [
            "Provider",
            "From … to",
            "Messages",
            "p50 (ms)",
            "p95 (ms)",
            "p99 (ms)",
        ];
        Sheet {
            name: "latency",
            heads: heads(&names),
            rows: rows.collect(),
        }
    }

    /// As it stands under its chart.
    pub(super) fn table(&self, caption: &str) -> Markup {
        let name = self.name;
        html! {
            div.scroll id={ "scroll-" (name) } role="region" aria-label=(caption) tabindex="0" {
                table {
                    caption.unseen { (caption) }
                    thead {
                        tr {
                            @for (at, head) in self.heads.iter().enumerate() {
                                th.number[self.is_number(at)] scope="col" { (unit_free(head)) }
                            }
                        }
                    }
                    tbody {
                        @for row in &self.rows {
                            tr {
                                @for (at, cell) in row.iter().enumerate() {
                                    @if at == 0 { th scope="row" { (cell.shown()) } }
                                    @else { td.number[cell.is_number()] { (cell.shown()) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// As a file (RFC 4180): a line of names, and numbers without ornaments.
    pub(crate) fn csv(&self) -> String {
        let mut text = String::new();
        let heads = self.heads.iter().map(|head| field(head, false));
        line(&mut text, heads);
        for row in &self.rows {
            let fields = row.iter();
            line(
                &mut text,
                fields.map(|cell| field(&cell.plain(), !cell.is_number())),
            );
        }
        text
    }

    fn is_number(&self, column: usize) -> bool {
        let first = self.rows.first().and_then(|row| row.get(column));
        first.is_some_and(Cell::is_number)
    }
}

fn provider(name: &str) -> Cell {
    match name {
        "" => Cell::Named("none yet".to_owned(), String::new()),
        name => Cell::Text(name.to_owned()),
    }
}

fn costs(report: &Report) -> (String, String) {
    let currency = &report.currency;
    (
        format!("Cost ({currency})"),
        format!("Estimated ({currency})"),
    )
}

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What a head says where each cell has its unit with it.
fn unit_free(head: &str) -> &str {
    let units = [" (ms)", " (%)"];
    units
        .iter()
        .find_map(|unit| head.strip_suffix(unit))
        .unwrap_or(head)
}

fn line(text: &mut String, fields: impl Iterator<Item = String>) {
    text.push_str(&fields.collect::<Vec<_>>().join(","));
    text.push_str("\r\n");
}

/// A field, quoted where that is needed. Words that a spreadsheet would take for a formula are made
/// text by an apostrophe: they may come from a component.
fn field(text: &str, is_word: bool) -> String {
    let is_formula = is_word && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let mark = if is_formula { "'" } else { "" };
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{mark}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{mark}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::overview::tests::report;

    fn csv(name: &str, report: &Report) -> String {
        let make = Sheet::named(name).expect("a table");
        make(report, Interval::Day).csv()
    }

    #[test]
    fn a_file_has_numbers_for_machines() {
        let report = report();
        assert_eq!(
            csv("timeline", &report),
            "Day (UTC),Messages,Delivered,Delivered (%)\r\n\
             2026-01-01T00:00:00Z,1000,970,97.00\r\n\
             2026-01-03T00:00:00Z,1234,1211,98.14\r\n"
        );
        assert_eq!(
            csv("countries", &report),
            "Country,Messages,Cost (USD),Estimated (USD)\r\n\
             US,1500,11.85,0\r\nIN,734,2.202,0.5505\r\n"
        );
        assert_eq!(
            csv("latency", &report).lines().nth(2),
            Some("all,sent to delivered,2181,2100,6400,14200")
        );
        assert_eq!(
            csv("providers", &report).lines().last(),
            Some("backup,234,221,9,0.702,200,130,65.00")
        );
        assert!(Sheet::named("users").is_none());
    }

    #[test]
    fn a_file_of_nothing_has_its_names_still() {
        let mut report = report();
        report.by_status.clear();
        assert_eq!(csv("statuses", &report), "Status,Messages,Share (%)\r\n");
    }

    #[test]
    fn words_are_no_formulas_and_break_no_line() {
        for (word, want) in [
            ("plain", "plain"),
            ("=1+1", "'=1+1"),
            ("-x", "'-x"),
            ("a,b", "\"a,b\""),
            ("@\"\n", "\"'@\"\"\n\""),
        ] {
            assert_eq!(field(word, true), want);
        }
        assert_eq!(field("-1", false), "-1");
    }

    #[test]
    fn a_table_shows_what_its_file_has() {
        let sheet = Sheet::latency(&report(), Interval::Day);
        let table = sheet.table("How long").into_string();
        assert!(table.contains("<th scope=\"row\">all</th>"), "{table}");
        assert!(table.contains("<td class=\"number\">6.4 s</td>"), "{table}");
        // Of what never happened there is no time.
        assert!(table.contains("<td class=\"number\">–</td>"), "{table}");
    }
}
