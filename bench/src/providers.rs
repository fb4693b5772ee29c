//! The same provider in three languages: how many messages a second it hands over, how late one is, what memory
//! that takes; and whether a company that answers after five seconds makes the messages of another late.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::company::Company;
use crate::load::{self, Bodies, Load, Measured, Target};
use crate::process::Process;
use crate::report::{Report, megabytes};
use crate::server::{KEY, digits, send_body};
use crate::{Failure, only_expected};

/// The files of the components, and how the table calls them; the first is what the others are compared with.
const LANGUAGES: [(&str, &str); 3] = [("rust", "Rust"), ("js", "JavaScript"), ("python", "Python")];

/// How many messages are on their way to one company at once, as the server has it by default.
const CONCURRENCY: usize = 64;
/// As few messages a second as every language has time for, and more than the slow company takes.
const SELDOM: f64 = 20.0;
/// How long the slow company takes.
const SLOW: Duration = Duration::from_secs(5);
/// The most that is told apart of how late a message is.
const LATE_US_MAX: u64 = 60_000_000;
/// How long deliveries may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one language has taken.
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// The p99 while the other company is slow.
    beside_slow_p99_ms: f64,
    idle_mb: f64,
    busy_mb: f64,
}

/// Measures each of `components`, a folder with a file for each language.
pub(crate) async fn measure(
    binary: &Path,
    components: &Path,
    folder: &Path,
    load: &Load,
    messages: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut first: Option<Figures> = None;
    for (file, language) in LANGUAGES {
        eprintln!("  a provider in {language}");
        let component = components.join(format!("{file}.wasm"));
        // The server runs in a folder of its own.
        let component = component
            .canonicalize()
            .map_err(|error| format!("{}: {error}", component.display()))?;
        let folder = folder.join(file);
        std::fs::create_dir(&folder)?;
        // What is compiled at the first start comes out of the cache at the next, and leaves no memory behind.
        let compiling = Server::start(binary, &component, &folder)?;
        let started = compiling.process.started;
        drop(compiling);
        let server = Server::start(binary, &component, &folder)?;
        let figures = server.measure(load, messages).await?;
        let mut fact = |what: &str, unit, value| {
            report.fact(format!("providers: {language}: {what}"), unit, value);
        };
        fact("messages handed over in a second", "/s", figures.per_second);
        fact("from the request to the company, p50", "ms", figures.p50_ms);
        fact("from the request to the company, p99", "ms", figures.p99_ms);
        fact(
            "the same while another company takes 5 s",
            "ms",
            figures.beside_slow_p99_ms,
        );
        fact(
            "the first start, with compiling",
            "ms",
            started.as_secs_f64() * 1e3,
        );
        fact("memory idle, after the next start", "MB", figures.idle_mb);
        fact(
            "memory with 64 messages on their way",
            "MB",
            figures.busy_mb,
        );
        if let Some(first) = &first {
            let rate = figures.per_second / first.per_second;
            fact("messages in a second, of Rust's", "times", rate);
            fact("p50, of Rust's", "times", figures.p50_ms / first.p50_ms);
        }
        first.get_or_insert(figures);
    }
    Ok(())
}

/// A server with two entries of one component: messages to Germany go to the slow company.
struct Server {
    process: Process,
    quick: Company,
    slow: Company,
    /// How many numbers of each country have been used.
    used: [AtomicU64; 2],
}

/// As [`digits`] hands them out, in turns.
#[derive(Clone, Copy)]
enum Country {
    UnitedStates = 0,
    Germany = 1,
}

impl Server {
    fn start(binary: &Path, component: &Path, folder: &Path) -> Result<Server, Failure> {
        let (quick, slow) = (Company::start(Duration::ZERO)?, Company::start(SLOW)?);
        let entry = |name: &str, company: &Company| {
            format!(
                "[[provider]]\nname = '{name}'\ncomponent = '{}'\nconcurrency = {CONCURRENCY}\n\
                 settings = {{ base-url = 'http://{}', from = 'Bench' }}\n\
                 credentials = {{ api-key = {{ env = 'PROVIDER_KEY' }} }}\n",
                component.display(),
                company.address
            )
        };
        let routes = "[[route]]\ncountry = 'DE'\nproviders = ['slow']\n\
                      [[route]]\nproviders = ['quick']\n";
        let config = folder.join("config.toml");
        let text = entry("quick", &quick) + &entry("slow", &slow) + routes;
        std::fs::write(&config, text)?;
        let mut command = Command::new(binary);
        command
            .env_clear()
            .current_dir(folder)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.join("data"))
            .arg("--config")
            .arg(&config)
            .env("COUNTERSIGN_API_KEY", KEY)
            .env("COUNTERSIGN_LOG", "warn")
            .env("PROVIDER_KEY", "bench-provider-key");
        Ok(Server {
            process: Process::start(command, &folder.join("log"))?,
            quick,
            slow,
            used: Default::default(),
        })
    }

    async fn measure(&self, load: &Load, messages: u64) -> Result<Figures, Failure> {
        let seldom = Load {
            connections: 8,
            per_second: Some(SELDOM),
            ..*load
        };
        // Connections and pages that the first ones need.
        self.late(&Load {
            duration: Duration::from_millis(500),
            ..seldom
        })
        .await?;
        let idle_kib = self.process.resident_kib();
        let alone = self.late(&seldom).await?;

        // All of them wait when the company begins to answer, so that nothing else is going on then.
        self.quick.hold(true);
        let before = self.quick.taken();
        let crowd = Load {
            duration: PATIENCE,
            ..*load
        };
        let sent = self.send(&crowd, Country::UnitedStates, messages).await?;
        let wanted = before + usize::try_from(sent.answers)?;
        self.until(&self.quick, wanted.min(before + CONCURRENCY))
            .await?;
        let busy_kib = self.process.resident_kib();
        let begun = Instant::now();
        self.quick.hold(false);
        self.until(&self.quick, wanted).await?;
        let took = begun.elapsed();

        // Until all places of the slow company are taken, and then all the time beside the other messages.
        let fill = Load {
            duration: SLOW,
            ..seldom
        };
        self.send(&fill, Country::Germany, u64::MAX).await?;
        self.until(&self.slow, CONCURRENCY).await?;
        let more = self.send(&seldom, Country::Germany, u64::MAX);
        let (beside, more) = tokio::join!(self.late(&seldom), more);
        let (beside, _) = (beside?, more?);
        if u64::try_from(self.slow.taken())? >= self.used(Country::Germany) {
            return Err("the slow company was not slow enough".into());
        }
        let ms = |latency: &Histogram<u64>, quantile| {
            Duration::from_micros(latency.value_at_quantile(quantile)).as_secs_f64() * 1e3
        };
        Ok(Figures {
            per_second: sent.count_as_float() / took.as_secs_f64(),
            p50_ms: ms(&alone, 0.5),
            p99_ms: ms(&alone, 0.99),
            beside_slow_p99_ms: ms(&beside, 0.99),
            idle_mb: megabytes(idle_kib),
            busy_mb: megabytes(busy_kib),
        })
    }

    /// How late messages to the quick company are, from the request for each, in microseconds.
    async fn late(&self, load: &Load) -> Result<Histogram<u64>, Failure> {
        let first = self.used(Country::UnitedStates);
        let asked: Arc<Mutex<HashMap<u64, Instant>>> = Arc::default();
        let (before, noted) = (self.quick.taken(), asked.clone());
        let note = move |digits| {
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.insert(digits, Instant::now());
        };
        let sent = self
            .post(load, Country::UnitedStates, u64::MAX, note)
            .await?;
        let wanted = before + usize::try_from(sent.answers)?;
        self.until(&self.quick, wanted).await?;
        let mut late = Histogram::new_with_max(LATE_US_MAX, 3)?;
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        for n in first..self.used(Country::UnitedStates) {
            let digits = digits(2 * n);
            let arrived = self.quick.arrival(digits).ok_or("a message is missing")?;
            let asked = asked.get(&digits).ok_or("a request was not noted")?;
            late.saturating_record(u64::try_from((arrived - *asked).as_micros())?);
        }
        Ok(late)
    }

    fn used(&self, country: Country) -> u64 {
        self.used[country as usize].load(Ordering::Relaxed)
    }

    /// Sends `messages` to numbers of `country`.
    async fn send(
        &self,
        load: &Load,
        country: Country,
        messages: u64,
    ) -> Result<Measured, Failure> {
        self.post(load, country, messages, |_| ()).await
    }

    /// Sends until the load's time or `messages` are over; `note` hears of each before.
    async fn post(
        &self,
        load: &Load,
        country: Country,
        messages: u64,
        note: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Measured, Failure> {
        let first = self.used(country);
        let bodies: Bodies = Arc::new(move |n| {
            let number = 2 * (first + n) + country as u64;
            (n < messages).then(|| {
                note(digits(number));
                send_body(number)
            })
        });
        let expected =
            |status, body: &[u8]| status == 200 && body.windows(9).any(|part| part == b"expiresAt");
        let target = Target {
            address: self.process.address,
            path: "/api/otp/send",
            key: Some(KEY),
        };
        let measured = load::run(target, *load, bodies, expected).await;
        let measured = measured.and_then(|measured| only_expected("sends", measured));
        let measured = measured.map_err(|failure| format!("{failure}\n{}", self.process.said()))?;
        self.used[country as usize].fetch_add(measured.answers, Ordering::Relaxed);
        Ok(measured)
    }

    /// Waits until `company` has taken so many.
    async fn until(&self, company: &Company, wanted: usize) -> Result<(), Failure> {
        let begun = Instant::now();
        while company.taken() < wanted {
            if begun.elapsed() > PATIENCE {
                let (taken, said) = (company.taken(), self.process.said());
                return Err(format!("deliveries ended at {taken} of {wanted}\n{said}").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}
