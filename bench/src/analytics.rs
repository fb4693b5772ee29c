//! What counting costs, and what a dashboard does: a year of messages in 50 countries and with three
//! providers, their events committed to the log, counted by the real component, and asked for.
//!
//! The figures of 1, 5 and 100 million messages are those of [`Scale::folded`] ones, of which every count
//! and amount is taken so many times: as many rows and cells, with as many different spans of time in
//! them. What a question costs depends on those.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::cells::Cells;
use analytics::timeline::{Count, Steps};
use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::figures::{Interval, Query, Report};
use countersign_runtime::{Limits, Runtime, RuntimeConfig};
use countersign_store::{Body, Commit, Keyring, Sealing, SledStore, Store, Write};
use countersign_types::{
    Clock, Event, ManualClock, MessageId, SeededEntropy, SystemEntropy, UnixMillis,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Failure;
use crate::store::mix;

/// 2025-01-01T00:00:00Z.
const YEAR: UnixMillis = UnixMillis(1_735_689_600_000);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const COUNTRIES: [&str; 50] = [
    "US", "IN", "BR", "ID", "MX", "DE", "GB", "FR", "PH", "NG", "TR", "VN", "PK", "ES", "IT", "PL",
    "CO", "AR", "ZA", "EG", "TH", "MY", "NL", "CA", "AU", "RO", "SA", "AE", "KE", "GH", "PE", "CL",
    "UA", "BE", "SE", "PT", "GR", "CZ", "HU", "CH", "AT", "IL", "SG", "HK", "JP", "KR", "DK", "NO",
    "FI", "IE",
];
const PROVIDERS: [&str; 3] = ["main", "second", "third"];
const PRICES: [&str; 3] = ["USD *=0.05 US=0.0079", "EUR *=0.06", "USD *=0.04"];
/// Events of one commit, and commits at once, while the log is filled.
const EVENTS_OF_A_COMMIT: usize = 256;
const TASKS: usize = 16;
/// How often each question is asked; what is told is the median.
const QUESTIONS: usize = 101;
const COMPONENT: &[u8] = b"c/analytics/";

/// How much is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Messages over a year that are counted one by one.
    pub(crate) folded: u64,
    /// Messages at 10,000 an hour, to measure counting.
    pub(crate) dense: u64,
    /// Rows of DuckDB's table.
    pub(crate) raw: u64,
}

/// What was found, by name and unit.
pub(crate) type Facts = Vec<(String, &'static str, f64)>;

/// Measures it all. `python` has DuckDB, where it is given.
pub(crate) async fn measure(
    folder: &Path,
    scale: Scale,
    python: Option<&Path>,
) -> Result<Facts, Failure> {
    let mut facts = Facts::new();
    let mut add = |name: &str, unit, value| facts.push((name.to_owned(), unit, value));
    {
        let bench = Bench::start(&folder.join("dense")).await?;
        eprintln!("  counting events");
        let hour = Duration::from_secs(3_600).as_millis() as u64;
        let span = Duration::from_millis(scale.dense * hour / 10_000);
        bench.commit(scale.dense, span).await?;
        let (events, elapsed) = bench.fold().await?;
        add(
            "analytics: events counted, durably",
            "/s",
            events as f64 / elapsed.as_secs_f64(),
        );
        eprintln!("  from event to dashboard");
        let (median, worst) = bench.event_to_dashboard().await?;
        add("analytics: event to dashboard, median of 25", "ms", median);
        add(
            "analytics: event to dashboard, the longest of 25",
            "ms",
            worst,
        );
    }
    let bench = Bench::start(&folder.join("year")).await?;
    eprintln!("  a year of {} messages", scale.folded);
    bench.commit(scale.folded, 365 * DAY).await?;
    bench.fold().await?;
    let mut messages = scale.folded;
    let mut first = None;
    for times in [(1_000_000 / messages).max(1), 5, 20] {
        bench.scale(times).await?;
        messages *= times;
        let millions = messages as f64 / 1e6;
        let of = |what: &str| format!("analytics: {what}, {millions:.1} million messages");
        let (year, count) = bench.ask(&whole_year()).await?;
        if count != messages {
            return Err(format!("{count} messages are counted, and there are {messages}").into());
        }
        add(&of("dashboard of a calendar year"), "ms", year);
        let (odd, _) = bench.ask(&odd_year()).await?;
        add(&of("dashboard of 365 days from noon to noon"), "ms", odd);
        let least = *first.get_or_insert(year);
        if times == 20 {
            add(
                "analytics: the last calendar year of the first",
                "times",
                year / least,
            );
        }
    }
    if let Some(python) = python {
        eprintln!("  DuckDB");
        let millions = scale.raw as f64 / 1e6;
        for (name, millis) in duckdb(python, scale.raw)? {
            let name = format!("DuckDB: {name}, {millions:.1} million rows");
            add(&name, "ms", millis);
        }
    }
    Ok(facts)
}

/// Runs the same questions over raw rows in DuckDB; times in milliseconds, by name.
fn duckdb(python: &Path, messages: u64) -> Result<Vec<(String, f64)>, Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/duckdb_dashboard.py");
    let mut command = Command::new(python);
    command.arg(script);
    command.args([messages, COUNTRIES.len() as u64].map(|number| number.to_string()));
    let output = command.output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("DuckDB: {}", text.trim()).into());
    }
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let told = told.as_object().ok_or("DuckDB told no times")?;
    let times = told.iter();
    Ok(times
        .filter_map(|(name, millis)| Some((name.clone(), millis.as_f64()?)))
        .collect())
}

fn query(start: UnixMillis) -> Query {
    Query {
        start: start.0,
        end: (start + 365 * DAY).0,
        interval: Interval::Day,
        country: None,
        provider: None,
    }
}

fn whole_year() -> Query {
    query(YEAR)
}

/// From noon to noon, so that it begins and ends within a day and a month.
fn odd_year() -> Query {
    query(YEAR - DAY * 10 + DAY / 2)
}

struct Bench {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    clock: Arc<ManualClock>,
    entropy: SeededEntropy,
    runtime: Runtime,
}

impl Bench {
    async fn start(folder: &Path) -> Result<Bench, Failure> {
        std::fs::create_dir_all(folder)?;
        let store: Arc<dyn Store> = SledStore::open(&folder.join("store"))?;
        let keyring = Keyring::load_or_create(&folder.join("keys"), true, &SystemEntropy)?;
        let keyring = Arc::new(keyring);
        let clock = Arc::new(ManualClock::new(YEAR));
        let queue = Queue::open(
            store.clone(),
            keyring.clone(),
            clock.clone(),
            QueueConfig::default(),
        );
        let tables = PROVIDERS.iter().zip(PRICES);
        let tables = tables.map(|(name, table)| (format!("prices/{name}"), table.to_owned()));
        let rates = [("rates".to_owned(), "EUR=1.08".to_owned())];
        let runtime = Runtime::start(RuntimeConfig {
            store: store.clone(),
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            queue: queue.await?,
            keyring: keyring.clone(),
            limits: Limits {
                // Whoever asks while it counts may have to keep commits out, on a busy machine for longer.
                hold: Duration::from_secs(10),
                ..Limits::default()
            },
            default_region: None,
            cache: None,
            otp: countersign_embedded::OTP.to_vec(),
            two_factor: countersign_embedded::TWO_FACTOR.to_vec(),
            analytics: countersign_embedded::ANALYTICS.to_vec(),
            settings: Vec::new(),
            texts: Arc::default(),
            analytics_settings: tables.chain(rates).collect(),
            audit_kept: 400 * DAY,
            providers: Vec::new(),
            public_url: None,
        })
        .await?;
        Ok(Bench {
            store,
            keyring,
            clock,
            entropy: SeededEntropy::new([7; 32]),
            runtime,
        })
    }

    /// Commits the events of so many messages' lives, spread over `span`.
    async fn commit(&self, messages: u64, span: Duration) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        let mut events: Vec<Vec<u8>> = Vec::new();
        let millis = span.as_millis() as u64;
        for n in 0..messages {
            let accepted = YEAR + Duration::from_millis(n * millis / messages);
            events.extend(life(n, accepted, &self.entropy));
            if events.len() < EVENTS_OF_A_COMMIT && n + 1 < messages {
                continue;
            }
            self.clock.set(accepted.max(self.clock.now()));
            let commit = Commit {
                instant: accepted,
                events: std::mem::take(&mut events),
                ..Commit::default()
            };
            let store = self.store.clone();
            tasks.spawn(async move { store.commit(commit).await });
            while tasks.len() >= TASKS {
                if let Some(done) = tasks.join_next().await {
                    done??;
                }
            }
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Counts all that there is; how many events, and how long it took.
    async fn fold(&self) -> Result<(u64, Duration), Failure> {
        let first = self.runtime.fold(None).await?;
        let begun = Instant::now();
        let mut folded = first;
        while folded.more {
            folded = self.runtime.fold(Some(folded.next)).await?;
        }
        Ok((folded.next - first.next, begun.elapsed()))
    }

    /// The median time of a question in milliseconds, and the number of messages in its answer.
    async fn ask(&self, query: &Query) -> Result<(f64, u64), Failure> {
        let mut times = Vec::with_capacity(QUESTIONS);
        let mut count = 0;
        for _ in 0..QUESTIONS {
            let begun = Instant::now();
            let report: Report = self.runtime.dashboard(query).await?;
            times.push(begun.elapsed());
            count = report.count;
        }
        times.sort_unstable();
        Ok((times[times.len() / 2].as_secs_f64() * 1e3, count))
    }

    /// Counts as a server does, and measures from the end of a commit to a dashboard with its event: the
    /// median and the longest of 25, in milliseconds.
    async fn event_to_dashboard(&self) -> Result<(f64, f64), Failure> {
        let (stop, stopped) = watch::channel(false);
        let runtime = self.runtime.clone();
        let counting = tokio::spawn(async move { runtime.fold_all(stopped).await });
        let mut times = Vec::new();
        let now = self.clock.now();
        let day = Query {
            start: now.0 / DAY.as_millis() as u64 * DAY.as_millis() as u64,
            end: (now.0 / DAY.as_millis() as u64 + 1) * DAY.as_millis() as u64,
            ..whole_year()
        };
        let mut before = self.runtime.dashboard(&day).await?.count;
        for n in 0..25 {
            let accepted = life(n, now, &self.entropy).remove(0);
            let commit = Commit {
                instant: now,
                events: vec![accepted],
                ..Commit::default()
            };
            self.store.commit(commit).await?;
            let begun = Instant::now();
            loop {
                let count = self.runtime.dashboard(&day).await?.count;
                if count > before {
                    before = count;
                    break;
                }
                if begun.elapsed() > Duration::from_secs(30) {
                    return Err("an event was not counted in 30 s".into());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        stop.send_replace(true);
        counting.await?;
        times.sort_unstable_by(f64::total_cmp);
        Ok((times[times.len() / 2], times[times.len() - 1]))
    }

    /// Takes every count and amount so many times.
    async fn scale(&self, times: u64) -> Result<(), Failure> {
        let sealing = Sealing::new(self.store.clone(), self.keyring.clone(), b"c/");
        let end = [&COMPONENT[..COMPONENT.len() - 1], b"0"].concat();
        let mut from = COMPONENT.to_vec();
        loop {
            let page = sealing.scan(&from, &end, 256).await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            from = [last.as_slice(), &[0]].concat();
            let mut writes = Vec::new();
            for (key, row) in page {
                let mut body = row?.body;
                let Body::Sections(sections) = &mut body else {
                    continue;
                };
                let Some(section) = &mut sections.service else {
                    continue;
                };
                let name = key.get(COMPONENT.len()..).unwrap_or_default();
                match scaled(name, &section.value, times) {
                    Some(value) => section.value = value,
                    None => continue,
                }
                let body = Some(body);
                writes.push(Write { key, body });
            }
            let commit = Commit {
                instant: self.clock.now(),
                writes,
                ..Commit::default()
            };
            sealing.commit(commit).await?;
        }
    }
}

/// A row with every count taken so many times; `None`: it holds no counts.
fn scaled(name: &[u8], row: &[u8], times: u64) -> Option<Vec<u8>> {
    let name = str::from_utf8(name).ok()?;
    if name.starts_with("hours/") || name.starts_with("days/") {
        let steps = Steps::decode(row)?;
        let mut sum = Steps::default();
        for provider in steps.sums().into_keys() {
            for (step, Count { count, delivered }) in steps.of(Some(provider)) {
                let of = sum.count(provider, step);
                of.count += count * times;
                of.delivered += delivered * times;
            }
        }
        return Some(sum.encode());
    }
    if !["h/", "d/", "m/"]
        .iter()
        .any(|level| name.starts_with(level))
    {
        return None;
    }
    let cells = Cells::decode(row)?;
    let mut sum = Cells::default();
    for _ in 0..times {
        sum.add(&cells);
    }
    Some(sum.encode())
}

/// The events of a message's life, as the host would tell of it.
fn life(n: u64, accepted: UnixMillis, entropy: &SeededEntropy) -> Vec<Vec<u8>> {
    let id = MessageId::new(accepted, entropy);
    let chance = |of: u64, salt: u64| mix(n ^ salt << 56) % of;
    // The first countries have most of the messages.
    let country = COUNTRIES[(chance(50, 1) * chance(50, 2) / 49) as usize % 50];
    let provider = PROVIDERS[[0, 0, 0, 0, 0, 1, 1, 1, 2, 2][chance(10, 3) as usize]];
    let told = |kind: &str, after: u64, facts: &[(&str, &str)]| {
        let event = Event {
            kind: kind.to_owned(),
            at: accepted + Duration::from_millis(after),
            service: "default".to_owned(),
            source: if kind.starts_with("message") {
                "host"
            } else {
                "otp"
            }
            .to_owned(),
            message: Some(id),
            country: Some(country.to_owned()),
            attributes: facts
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        postcard::to_allocvec(&event).unwrap_or_default()
    };
    // Mostly some 100 ms in the queue and some seconds on the way, with long tails.
    let queue = 20 + chance(200, 4) + [0, 3_000][usize::from(chance(50, 5) == 0)] * chance(20, 6);
    let way = 800 + chance(6_000, 7) + [0, 20_000][usize::from(chance(30, 8) == 0)] * chance(30, 9);
    let (queue_ms, delivery_ms) = (queue.to_string(), way.to_string());
    let base = ("channel", "sms");
    let mut events = vec![
        told(
            "message.accepted",
            0,
            &[
                base,
                ("code", "yes"),
                ("template", "verification"),
                ("purpose", "verification"),
            ],
        ),
        told(
            "message.sent",
            queue,
            &[
                base,
                ("code", "yes"),
                ("was", "queued"),
                ("provider", provider),
                ("segments", "1"),
                ("queue-ms", &queue_ms),
            ],
        ),
    ];
    let price = [("price", "0.0079"), ("currency", "USD")];
    let price = &price[..if chance(3, 10) > 0 { 2 } else { 0 }];
    let receipt = |kind: &str, more: &[(&str, &str)]| {
        let facts = [
            &[
                base,
                ("was", "sent"),
                ("provider", provider),
                ("segments", "1"),
                ("unpriced-was", "1"),
            ],
            price,
            more,
        ];
        told(kind, queue + way, &facts.concat())
    };
    match chance(100, 11) {
        0..94 => events.push(receipt(
            "message.delivered",
            &[("delivery-ms", &delivery_ms)],
        )),
        94..97 => events.push(receipt("message.undelivered", &[])),
        97 => events.push(receipt("message.failed", &[])),
        _ => {}
    }
    if chance(100, 12) < 75 {
        events.push(told(
            "verification.approved",
            queue + way + 9_000,
            &[("purpose", "verification")],
        ));
    }
    events
}
