//! From rounds to figures: medians, ratios, a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::component::CallCost;
use crate::load::{Load, Measured};
use crate::overload::Overload;
use crate::store::Disk;

/// How long the machine is looked at before anything is measured.
const LOOK_AT_MACHINE: Duration = Duration::from_millis(500);

/// What is measured under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    /// hyper alone.
    Bare,
    /// The store alone.
    Store,
    /// Sends with deliveries running.
    Send,
    /// Wrong codes.
    VerifyWrong,
    /// Right codes.
    VerifyRight,
    /// Sends at half of the highest rate, with deliveries running.
    SendHalf,
    /// Sends with a provider that answers nothing.
    SendHeld,
}

impl Line {
    /// How the table calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Line::Bare => "bare hyper POST",
            Line::Store => "store alone, rows of a send",
            Line::Send => "send, deliveries running",
            Line::VerifyWrong => "verify, wrong code",
            Line::VerifyRight => "verify, right code",
            Line::SendHalf => "send at half of that rate",
            Line::SendHeld => "send, deliveries held back",
        }
    }

    /// How JSON calls it.
    fn name(self) -> &'static str {
        match self {
            Line::Bare => "bare",
            Line::Store => "store",
            Line::Send => "send",
            Line::VerifyWrong => "verifyWrong",
            Line::VerifyRight => "verifyRight",
            Line::SendHalf => "sendHalf",
            Line::SendHeld => "sendHeld",
        }
    }
}

/// What is known of one round's sends beyond their rate.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// From the server's start to its line.
    pub(crate) started: Duration,
    /// Resident memory before the sends.
    pub(crate) idle_kib: u64,
    /// Resident memory after them.
    pub(crate) loaded_kib: u64,
    /// Sends that were answered with 200.
    pub(crate) accepted: u64,
    /// How many of their messages had not reached the provider at the last answer.
    pub(crate) behind: u64,
    /// How long it took until all had.
    pub(crate) drained: Duration,
}

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    load: Load,
    rounds: u8,
    disk: Disk,
    machine: Machine,
    lines: BTreeMap<Line, Vec<Measured>>,
    /// One for each round with sends.
    pub(crate) sent: Vec<Sent>,
    /// One for each round with overload.
    pub(crate) overload: Vec<Overload>,
    /// The cost of calls.
    pub(crate) calls: Vec<CallCost>,
    facts: Vec<Fact>,
    notes: Vec<&'static str>,
}

/// A figure by itself, of each round.
#[derive(Clone, Debug)]
struct Fact {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
}

/// The figures of one line.
struct Figures {
    per_second: f64,
    of_bare: Option<f64>,
    of_store: Option<f64>,
    p50_ms: f64,
    p99_ms: f64,
    /// Processor time of the server for one answer, by what its threads do, the largest first.
    cpu_us: Vec<(&'static str, f64)>,
}

impl Report {
    /// A report of what is going to be measured.
    pub(crate) fn new(load: Load, rounds: u8, disk: Disk) -> Report {
        Report {
            load,
            rounds,
            disk,
            machine: Machine::ask(),
            lines: BTreeMap::new(),
            sent: Vec::new(),
            overload: Vec::new(),
            calls: Vec::new(),
            facts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds one round's value of a figure.
    pub(crate) fn fact(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        let name = name.into();
        match self.facts.iter_mut().find(|fact| fact.name == name) {
            Some(fact) => fact.values.push(value),
            None => self.facts.push(Fact {
                name,
                unit,
                values: vec![value],
            }),
        }
    }

    /// Says what was not measured, and why.
    pub(crate) fn note(&mut self, text: &'static str) {
        self.notes.push(text);
    }

    /// Adds one round's measurement.
    pub(crate) fn add(&mut self, line: Line, measured: Measured) {
        self.lines.entry(line).or_default().push(measured);
    }

    fn figures(&self, line: Line) -> Option<Figures> {
        let rounds = self.lines.get(&line)?;
        let rates = |line| {
            let rounds: Option<&Vec<Measured>> = self.lines.get(&line);
            rounds.map(|rounds| rounds.iter().map(Measured::per_second))
        };
        // Round by round: what slows a whole round down is in both.
        let of = |baseline: Line| {
            // The store is part of no bare server, and a rate that was chosen says nothing.
            if line == Line::SendHalf || line <= baseline {
                return None;
            }
            let ratios = rates(line)?.zip(rates(baseline)?);
            Some(median(ratios.map(|(rate, base)| rate / base)))
        };
        let quantile = |quantile| {
            let each = rounds
                .iter()
                .map(|round| round.latency.value_at_quantile(quantile));
            median(each.map(milliseconds))
        };
        Some(Figures {
            per_second: median(rounds.iter().map(Measured::per_second)),
            of_bare: of(Line::Bare),
            of_store: of(Line::Store),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            cpu_us: cpu_us(rounds),
        })
    }

    /// What commits wait for, in words.
    fn fsync(&self) -> String {
        format!(
            "one fdatasync for each group of commits, before any of them is answered ({}; 4 KiB and an fdatasync alone: {} µs)",
            self.disk.file_system,
            self.disk.sync.as_micros()
        )
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let Load {
            connections,
            duration,
            ..
        } = self.load;
        let rounds = match self.rounds {
            1 => "one round".to_owned(),
            rounds => format!("medians of {rounds} rounds"),
        };
        writeln!(out, "machine  {}", self.machine)?;
        writeln!(out, "fsync    {}", self.fsync())?;
        writeln!(
            out,
            "load     {connections} connections, {} s each, {rounds}; generator, server and provider share the cores\n",
            duration.as_secs(),
        )?;
        if !self.lines.is_empty() {
            writeln!(
                out,
                "{:<28}{:>12}{:>9}{:>9}{:>9}{:>9}  server's processor time, µs for one",
                "", "per second", "of bare", "of store", "p50 ms", "p99 ms",
            )?;
        }
        let ratio =
            |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        for line in self.lines.keys() {
            let Some(figures) = self.figures(*line) else {
                continue;
            };
            let total: f64 = figures.cpu_us.iter().map(|(_, us)| us).sum();
            let parts = figures.cpu_us.iter();
            let parts: Vec<_> = parts.map(|(work, us)| format!("{work} {us:.0}")).collect();
            let cpu = match parts.as_slice() {
                [] => "-".to_owned(),
                [_] => format!("{total:.0}"),
                _ => format!("{total:.0}: {}", parts.join(", ")),
            };
            writeln!(
                out,
                "{:<28}{:>12.0}{:>9}{:>9}{:>9.2}{:>9.2}  {cpu}",
                line.title(),
                figures.per_second,
                ratio(figures.of_bare),
                ratio(figures.of_store),
                figures.p50_ms,
                figures.p99_ms,
            )?;
        }
        self.write_sent(out)?;
        self.write_overload(out)?;
        if !self.facts.is_empty() {
            writeln!(out)?;
        }
        for fact in &self.facts {
            let value = median(fact.values.iter().copied());
            // Ratios need their digits, counts do not.
            let digits = if value < 100.0 { 2 } else { 0 };
            writeln!(out, "{:<80}{value:>12.digits$} {}", fact.name, fact.unit)?;
        }
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        if !self.calls.is_empty() {
            writeln!(
                out,
                "\n{:<50}{:>10}{:>10}",
                "one call, one thread, no disk: µs", "fresh", "reused"
            )?;
        }
        for call in &self.calls {
            writeln!(
                out,
                "{:<50}{:>10.1}{:>10.1}",
                call.name, call.fresh_us, call.reused_us
            )?;
        }
        Ok(())
    }

    fn write_sent(&self, out: &mut String) -> std::fmt::Result {
        if self.sent.is_empty() {
            return Ok(());
        }
        let deliveries = self.deliveries();
        writeln!(
            out,
            "\ndeliveries: {:.0} of {:.0} messages ({:.1} %) were behind at the last answer; all had reached the provider {:.2} s later: {:.0}/s accepted and delivered",
            deliveries.behind,
            deliveries.accepted,
            deliveries.behind / deliveries.accepted.max(1.0) * 100.0,
            deliveries.drained,
            deliveries.per_second,
        )?;
        writeln!(
            out,
            "from the start of the server to its line: {:.2} s; resident memory: {:.0} MB idle, {:.0} MB after these sends",
            self.median_of(|sent| sent.started.as_secs_f64()),
            self.median_of(|sent| megabytes(sent.idle_kib)),
            self.median_of(|sent| megabytes(sent.loaded_kib)),
        )
    }

    fn write_overload(&self, out: &mut String) -> std::fmt::Result {
        if self.overload.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:<28}{:>12}{:>12}{:>9}{:>9}{:>9}  p99 of a refusal, ms",
            "overload: one core", "asked/s", "admitted/s", "refused", "p50 ms", "p99 ms",
        )?;
        for (title, line) in self.overload_lines() {
            writeln!(
                out,
                "{title:<28}{:>12.0}{:>12.0}{:>7.1} %{:>9.2}{:>9.2}  {:.2}",
                line.asked,
                line.admitted,
                line.refused * 100.0,
                line.p50_ms,
                line.p99_ms,
                line.refusal_p99_ms,
            )?;
        }
        let [admitted, p99, of_capacity] = self.overload_ratios();
        writeln!(
            out,
            "three times, of once: admitted {admitted:.2}, p99 of the admitted {p99:.2}; that p99 of the one of the capacity: {of_capacity:.2}",
        )
    }

    fn overload_lines(&self) -> [(&'static str, OverloadLine); 3] {
        [
            (
                "as fast as it answers",
                self.overload_line(|round| &round.capacity),
            ),
            (
                "that rate, scheduled",
                self.overload_line(|round| &round.once),
            ),
            (
                "three times that rate",
                self.overload_line(|round| &round.times),
            ),
        ]
    }

    fn overload_line(&self, part: fn(&Overload) -> &Measured) -> OverloadLine {
        let median = |figure: fn(&Measured) -> f64| {
            median(self.overload.iter().map(|round| figure(part(round))))
        };
        OverloadLine {
            asked: median(|part| asked(part) / part.elapsed.as_secs_f64().max(1e-9)),
            admitted: median(Measured::per_second),
            refused: median(|part| count(part.refused.len()) / asked(part)),
            p50_ms: median(|part| milliseconds(part.latency.value_at_quantile(0.5))),
            p99_ms: median(|part| milliseconds(part.latency.value_at_quantile(0.99))),
            refusal_p99_ms: median(|part| milliseconds(part.refused.value_at_quantile(0.99))),
        }
    }

    /// Of three times the capacity to once: what was admitted, and its p99; and that p99 to the one of
    /// connections that wait for their answers. Round by round.
    fn overload_ratios(&self) -> [f64; 3] {
        let p99 = |part: &Measured| count(part.latency.value_at_quantile(0.99)).max(1.0);
        let rounds = || self.overload.iter();
        [
            median(rounds().map(|round| round.times.per_second() / round.once.per_second())),
            median(rounds().map(|round| p99(&round.times) / p99(&round.once))),
            median(rounds().map(|round| p99(&round.times) / p99(&round.capacity))),
        ]
    }

    fn deliveries(&self) -> Deliveries {
        let elapsed = self.lines.get(&Line::Send).into_iter().flatten();
        let whole = elapsed.zip(&self.sent).map(|(measured, sent)| {
            count(sent.accepted) / (measured.elapsed + sent.drained).as_secs_f64()
        });
        Deliveries {
            accepted: self.median_of(|sent| count(sent.accepted)),
            behind: self.median_of(|sent| count(sent.behind)),
            drained: self.median_of(|sent| sent.drained.as_secs_f64()),
            per_second: median(whole),
        }
    }

    fn median_of(&self, figure: impl Fn(&Sent) -> f64) -> f64 {
        median(self.sent.iter().map(figure))
    }

    /// The same figures for programs.
    pub(crate) fn json(&self) -> Value {
        let lines = self.lines.keys().filter_map(|line| {
            let figures = self.figures(*line)?;
            let measured = self.lines.get(line)?;
            let answers: u64 = measured.iter().map(|round| round.answers).sum();
            let value = json!({
                "perSecond": figures.per_second,
                "ofBare": figures.of_bare,
                "ofStore": figures.of_store,
                "p50Ms": figures.p50_ms,
                "p99Ms": figures.p99_ms,
                "cpuUs": figures.cpu_us.iter().map(|(work, us)| ((*work).to_owned(), json!(us))).collect::<serde_json::Map<_, _>>(),
                "answers": answers,
                "rounds": measured.iter().map(Measured::per_second).collect::<Vec<_>>(),
            });
            Some((line.name().to_owned(), value))
        });
        let calls = self.calls.iter().map(
            |call| json!({"name": call.name, "freshUs": call.fresh_us, "reusedUs": call.reused_us}),
        );
        let deliveries = (!self.sent.is_empty()).then(|| {
            let deliveries = self.deliveries();
            json!({
                "accepted": deliveries.accepted,
                "behind": deliveries.behind,
                "drainedSeconds": deliveries.drained,
                "perSecond": deliveries.per_second,
                "startSeconds": self.median_of(|sent| sent.started.as_secs_f64()),
                "idleMegabytes": self.median_of(|sent| megabytes(sent.idle_kib)),
                "loadedMegabytes": self.median_of(|sent| megabytes(sent.loaded_kib)),
            })
        });
        let overload = (!self.overload.is_empty()).then(|| {
            let [admitted, p99, of_capacity] = self.overload_ratios();
            let lines = self.overload_lines().map(|(_, line)| {
                json!({
                    "askedPerSecond": line.asked,
                    "admittedPerSecond": line.admitted,
                    "refused": line.refused,
                    "p50Ms": line.p50_ms,
                    "p99Ms": line.p99_ms,
                    "refusalP99Ms": line.refusal_p99_ms,
                })
            });
            let [capacity, once, times] = lines;
            json!({
                "capacity": capacity,
                "once": once,
                "threeTimes": times,
                "admittedOfOnce": admitted,
                "p99OfOnce": p99,
                "p99OfCapacity": of_capacity,
            })
        });
        json!({
            "machine": self.machine.to_string(),
            "fsync": self.fsync(),
            "connections": self.load.connections,
            "seconds": self.load.duration.as_secs(),
            "rounds": self.rounds,
            "lines": lines.collect::<serde_json::Map<_, _>>(),
            "deliveries": deliveries,
            "overload": overload,
            "calls": calls.collect::<Vec<_>>(),
            "notes": self.notes,
            "facts": self.facts.iter().map(|fact| json!({
                "name": fact.name,
                "unit": fact.unit,
                "value": median(fact.values.iter().copied()),
            })).collect::<Vec<_>>(),
        })
    }
}

/// The figures of one line of overload, medians over the rounds.
struct OverloadLine {
    asked: f64,
    admitted: f64,
    refused: f64,
    p50_ms: f64,
    p99_ms: f64,
    refusal_p99_ms: f64,
}

/// Admitted and refused.
fn asked(measured: &Measured) -> f64 {
    count(measured.answers + measured.refused.len()).max(1.0)
}

/// Medians of what became of the messages.
struct Deliveries {
    accepted: f64,
    behind: f64,
    drained: f64,
    per_second: f64,
}

/// Medians of the processor time for one answer, by what threads do, the largest first.
fn cpu_us(rounds: &[Measured]) -> Vec<(&'static str, f64)> {
    let mut groups: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for round in rounds {
        let mut this: BTreeMap<&'static str, f64> = BTreeMap::new();
        for (thread, us) in &round.cpu_us {
            *this.entry(work(thread)).or_default() += us;
        }
        for (group, us) in this {
            groups.entry(group).or_default().push(us);
        }
    }
    let mut medians: Vec<_> = groups
        .into_iter()
        .map(|(group, us)| (group, median(us.into_iter())))
        .filter(|(_, us)| *us >= 0.5)
        .collect();
    medians.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    medians
}

/// What a thread of the server does, by its name as the kernel keeps it (15 bytes).
pub(crate) fn work(thread: &str) -> &'static str {
    match thread {
        "countersign" => "requests",
        "countersign-del" => "deliveries",
        "countersign-sto" => "storage",
        "tokio-rt-worker" => "all",
        _ if thread.starts_with("sled-") || thread.contains("flusher") => "sled's own",
        _ => "the rest",
    }
}

/// The machine, as far as it says.
#[derive(Clone, Debug)]
struct Machine {
    model: String,
    cores: usize,
    /// The share of its time that it was busy with something else before the start.
    busy: f64,
}

impl Machine {
    fn ask() -> Machine {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, name)| name);
        let before = idle_and_all();
        thread::sleep(LOOK_AT_MACHINE);
        let after = idle_and_all();
        let passed = count(after.1.saturating_sub(before.1)).max(1.0);
        Machine {
            model: model.to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            busy: 1.0 - count(after.0.saturating_sub(before.0)) / passed,
        }
    }
}

/// Idle time and all time of the processors, in ticks, from `/proc/stat`.
fn idle_and_all() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = stat.lines().next().unwrap_or_default().split_whitespace();
    let ticks: Vec<u64> = all.filter_map(|ticks| ticks.parse().ok()).collect();
    // user, nice, system, idle, waiting for a disk: proc(5).
    let idle = ticks.iter().skip(3).take(2).sum();
    (idle, ticks.iter().take(8).sum())
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Machine { model, cores, busy } = self;
        write!(
            f,
            "{model}, {cores} cores, {:.0} % busy with other things before the start",
            busy * 100.0
        )
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(count: u64) -> f64 {
    count as f64
}

fn milliseconds(us: u64) -> f64 {
    count(us) / 1_000.0
}

/// Of 10^6 bytes.
pub(crate) fn megabytes(kib: u64) -> f64 {
    count(kib) * 1_024.0 / 1e6
}
