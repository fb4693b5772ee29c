//! Answers: rows of a range added up. What it costs depends on how long the range is, and not on how many
//! messages there were in it.

use std::collections::BTreeMap;

use crate::Undecided;
use crate::calendar::{DAY, HOUR, Level, Span, cover, hour};
use crate::cells::{self, Cell, Cells, Country, GROUPS, Status};
use crate::figures::{Conversion, Cost, Figures, Latency};
use crate::host::{Host, Instant};
use crate::money::Amounts;
use crate::settings::Settings;
use crate::timeline::{self, Count, Steps};

/// How many countries are told of.
const COUNTRIES_MAX: usize = 10;
/// How many providers are told of.
const PROVIDERS_MAX: usize = 256;
/// How many currencies without a rate are told of.
const UNCONVERTED_MAX: usize = 16;

/// The longest range, in days, by the length of its steps. Each reads at most some 1,000 rows.
const DAYS_MAX: [(Level, u32); 3] = [(Level::Hour, 31), (Level::Day, 732), (Level::Month, 3_660)];

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The first hour.
    pub start: Instant,
    /// The hour after the last.
    pub end: Instant,
    /// The steps of the timeline.
    pub interval: Level,
    /// Only this one.
    pub country: Option<String>,
    /// Only this one.
    pub provider: Option<String>,
}

/// What is told of a country.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountryFigures {
    /// ISO 3166-1 alpha-2, or `001`.
    pub country: String,
    /// Messages to it.
    pub count: u64,
    /// What they cost.
    pub cost: Cost,
}

/// What is told of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderFigures {
    /// Its configured name.
    pub provider: String,
    /// Its messages.
    pub count: u64,
    /// Those that have arrived.
    pub delivered: u64,
    /// Those that have failed.
    pub failed: u64,
    /// What they cost.
    pub cost: Cost,
    /// What became of codes.
    pub conversion: Conversion,
    /// How long it took.
    pub latency: Latency,
}

/// An hour, a day or a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its first instant.
    pub start: Instant,
    /// The messages of it.
    pub count: Count,
}

/// What was asked. Nothing that has no messages is in any list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// All messages.
    pub count: u64,
    /// Those that have arrived.
    pub delivered: u64,
    /// Those that have failed.
    pub failed: u64,
    /// What all costs are in.
    pub currency: String,
    /// What all cost.
    pub cost: Cost,
    /// Messages that cost something, and nobody knows how much.
    pub unpriced: u64,
    /// Amounts of currencies without a rate.
    pub unconverted: Vec<(String, u64)>,
    /// The countries with the highest costs.
    pub by_country: Vec<CountryFigures>,
    /// By status; who has read a message has it.
    pub by_status: Vec<(Status, u64)>,
    /// By provider, in order of the names.
    pub by_provider: Vec<ProviderFigures>,
    /// What became of codes.
    pub conversion: Conversion,
    /// How long it took.
    pub latency: Latency,
    /// In order of time.
    pub timeline: Vec<Step>,
}

/// Answers a question.
///
/// # Errors
/// [`Undecided`]: the range is not one that may be asked for, or a row or a setting is wrong.
pub fn dashboard<H: Host>(host: &mut H, query: &Query) -> Result<Report, Undecided> {
    let settings = Settings::read(&host.settings())?;
    let hours = checked(query)?;
    let country = match query.country.as_deref() {
        None => None,
        Some("001") => Some(Country::NONE),
        Some(text) => {
            let wrong = Undecided::Call("a country is two capital letters, or `001`");
            Some(Country::read(text).ok_or(wrong)?)
        }
    };
    let mut sums = Sums {
        query,
        settings: &settings,
        country,
        countries: BTreeMap::new(),
        providers: BTreeMap::new(),
        timeline: BTreeMap::new(),
    };
    sums.read(host, hours)?;
    Ok(sums.report())
}

/// The hours that are asked for.
fn checked(query: &Query) -> Result<(u32, u32), Undecided> {
    if !query.start.is_multiple_of(HOUR) || !query.end.is_multiple_of(HOUR) {
        return Err(Undecided::Call("a range begins and ends at a whole hour"));
    }
    let (from, to) = (hour(query.start), hour(query.end));
    let most = DAYS_MAX.iter().find(|(level, _)| *level == query.interval);
    let days = most.map_or(0, |(_, days)| *days);
    match to.checked_sub(from) {
        None => Err(Undecided::Call("a range ends before it begins")),
        Some(hours) if hours > days * DAY => Err(Undecided::Call("the range is too long")),
        Some(_) if to > hour(1 << 48) => Err(Undecided::Call("the range is too late")),
        Some(_) => Ok((from, to)),
    }
}

/// What is added up.
struct Sums<'a> {
    query: &'a Query,
    settings: &'a Settings,
    country: Option<Country>,
    countries: BTreeMap<Country, Figures>,
    providers: BTreeMap<String, Figures>,
    timeline: BTreeMap<u32, Count>,
}

impl Sums<'_> {
    fn read<H: Host>(&mut self, host: &mut H, (from, to): (u32, u32)) -> Result<(), Undecided> {
        let interval = self.query.interval;
        // Rows with the steps of all countries spare the cells of each step.
        let has_steps = self.country.is_none() && interval != Level::Month;
        let longest = if has_steps { Level::Month } else { interval };
        let spans = cover(from, to, longest);
        for span in &spans {
            // Parts of a day are in no row of whole days.
            let counts = !has_steps || (interval == Level::Day && span.level == Level::Hour);
            let groups = match self.country {
                Some(country) => country.group()..country.group() + 1,
                None => 0..GROUPS,
            };
            for group in groups {
                self.read_cells(host, *span, group, counts)?;
            }
        }
        if has_steps {
            let whole = match interval {
                Level::Hour => from..to,
                _ => from.div_ceil(DAY)..to / DAY,
            };
            self.read_steps(host, whole)?;
        }
        Ok(())
    }

    fn read_cells<H: Host>(
        &mut self,
        host: &mut H,
        span: Span,
        group: u8,
        counts: bool,
    ) -> Result<(), Undecided> {
        let key = |n| cells::key(span.level, group, n);
        for (key, row) in host.scan(&key(span.from), &key(span.to)) {
            let n = key.rsplit('/').next().and_then(|n| n.parse::<u32>().ok());
            let (Some(n), Some(row)) = (n, Cells::decode(&row)) else {
                return Err(Undecided::Row(key));
            };
            let step = self.query.interval.of(hour(span.level.start(n)));
            for (place, cell) in row.all() {
                let provider = row.names().get(usize::from(place.provider));
                let provider = provider.map_or("", String::as_str);
                self.add(place.country, provider, cell, counts.then_some(step));
            }
        }
        Ok(())
    }

    fn add(&mut self, country: Country, provider: &str, cell: &Cell, step: Option<u32>) {
        let wanted = self.query.provider.as_deref();
        if self.country.is_some_and(|wanted| wanted != country)
            || wanted.is_some_and(|wanted| wanted != provider)
        {
            return;
        }
        let prices = self.settings.prices.get(provider);
        let price = prices.and_then(|prices| Some((prices.currency, prices.of(country)?)));
        let by_country = self.countries.entry(country).or_default();
        if !self.providers.contains_key(provider) {
            self.providers
                .insert(provider.to_owned(), Figures::default());
        }
        let by_provider = self.providers.get_mut(provider);
        for figures in [Some(by_country), by_provider].into_iter().flatten() {
            figures.add(cell);
            match price {
                None => figures.unpriced = figures.unpriced.saturating_add(cell.unpriced),
                Some((currency, price)) if cell.unpriced > 0 => {
                    let amount = u128::from(cell.unpriced_segments) * u128::from(price);
                    let sum = figures.estimates.entry(currency).or_default();
                    *sum = sum.saturating_add(amount);
                }
                Some(_) => {}
            }
        }
        if let Some(step) = step {
            let count = |statuses: &[Status]| {
                let counts = statuses
                    .iter()
                    .map(|status| cell.statuses[*status as usize]);
                counts.fold(0, u64::saturating_add)
            };
            let counted = Count {
                count: count(&Status::ALL),
                delivered: count(&[Status::Delivered, Status::Read]),
            };
            self.count(step, counted);
        }
    }

    fn read_steps<H: Host>(
        &mut self,
        host: &mut H,
        whole: std::ops::Range<u32>,
    ) -> Result<(), Undecided> {
        if whole.is_empty() {
            return Ok(());
        }
        let level = self.query.interval;
        let row_of = |n| timeline::place(level, hour(level.start(n))).0;
        let key = |row| timeline::key(level, row);
        let rows = host.scan(&key(row_of(whole.start)), &key(row_of(whole.end - 1) + 1));
        for (key, row) in rows {
            let n = key.rsplit('/').next().and_then(|n| n.parse::<u32>().ok());
            let (Some(n), Some(row)) = (n, Steps::decode(&row)) else {
                return Err(Undecided::Row(key));
            };
            for (step, count) in row.of(self.query.provider.as_deref()) {
                let step = timeline::step(level, n, step);
                if whole.contains(&step) {
                    self.count(step, count);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, step: u32, more: Count) {
        let count = self.timeline.entry(step).or_default();
        count.count = count.count.saturating_add(more.count);
        count.delivered = count.delivered.saturating_add(more.delivered);
    }

    fn report(self) -> Report {
        let mut all = Figures::default();
        self.countries
            .values()
            .for_each(|figures| all.merge(figures));
        let settings = self.settings;
        let has_any = |figures: &Figures| figures.count() > 0 || figures.conversion.verified > 0;
        let countries = self
            .countries
            .iter()
            .filter(|(_, figures)| figures.count() > 0);
        let mut by_country: Vec<_> = countries
            .map(|(country, figures)| CountryFigures {
                country: country.text(),
                count: figures.count(),
                cost: figures.cost(settings),
            })
            .collect();
        by_country.sort_by_key(|of| {
            (
                std::cmp::Reverse((of.cost.total, of.count)),
                of.country.clone(),
            )
        });
        by_country.truncate(COUNTRIES_MAX);
        let by_provider = self.providers.iter();
        let by_provider = by_provider.filter(|(_, figures)| has_any(figures));
        let by_provider = by_provider.map(|(provider, figures)| ProviderFigures {
            provider: provider.clone(),
            count: figures.count(),
            delivered: figures.of(Status::Delivered),
            failed: figures.of(Status::Failed),
            cost: figures.cost(settings),
            conversion: figures.conversion,
            latency: figures.latency(),
        });
        let shown = Status::ALL
            .into_iter()
            .filter(|status| *status != Status::Read);
        let by_status = shown.map(|status| (status, all.of(status)));
        let known = all.costs.iter().chain(&all.estimates);
        let mut unconverted = Amounts::new();
        for (currency, amount) in known.filter(|(one, _)| settings.rates.rate(**one).is_none()) {
            let sum = unconverted.entry(*currency).or_default();
            *sum = amount.saturating_add(*sum);
        }
        let unconverted = unconverted.into_iter().filter(|(_, amount)| *amount > 0);
        let unconverted = unconverted
            .map(|(currency, amount)| (currency.text(), u64::try_from(amount).unwrap_or(u64::MAX)));
        let steps = self.timeline.iter().filter(|(_, count)| count.count > 0);
        let interval = self.query.interval;
        Report {
            count: all.count(),
            delivered: all.of(Status::Delivered),
            failed: all.of(Status::Failed),
            currency: settings.rates.currency.text(),
            cost: all.cost(settings),
            unpriced: all.unpriced,
            unconverted: unconverted.take(UNCONVERTED_MAX).collect(),
            by_country,
            by_status: by_status.filter(|(_, count)| *count > 0).collect(),
            by_provider: by_provider.take(PROVIDERS_MAX).collect(),
            conversion: all.conversion,
            latency: all.latency(),
            timeline: steps
                .map(|(step, count)| Step {
                    start: interval.start(*step),
                    count: *count,
                })
                .collect(),
        }
    }
}
