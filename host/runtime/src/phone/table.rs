//! Plain E.164 numbers, judged by the library's own patterns, each compiled once.
//!
//! The library keeps its compiled patterns in one cache behind one lock: 20 µs for a number, 60 µs
//! when two threads ask. Here each pattern is an automaton of its own over digits, built when a number
//! first needs it (below 1 ms for all of a region's) and never locked again. All 1,459 of them take
//! 1.9 MB, so nothing is ever thrown away.
//!
//! The table only says yes, and only to what the library would say yes to, with the same answer; the
//! tests hold the two against each other. What it does not accept the library decides.

use std::sync::{LazyLock, OnceLock};

use countersign_types::{NumberKind, PhoneNumber};
use phonenumber::Metadata;
use phonenumber::metadata::{DATABASE, Descriptor};
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

/// How many digits a number has, country code included (ITU-T E.164: at most 15).
pub(super) const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// Digits of a country calling code.
const CODE_DIGITS_MAX: usize = 3;

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

/// Reads the library's metadata, which takes about 50 ms, so that no number has to wait for it.
pub(crate) fn load() {
    LazyLock::force(&TABLE);
}

/// The number that `text` is, if it is `+` with 7 to 15 digits and certainly valid. `None` says
/// nothing: the library decides.
pub(super) fn plain(text: &str) -> Option<PhoneNumber> {
    let digits = text.strip_prefix('+')?;
    let plain = DIGITS.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    // A country code has no leading zero; the library drops some of them.
    if !plain || digits.starts_with('0') {
        return None;
    }
    let (regions, national) = TABLE.split(digits)?;
    let (country, kind) = judge(regions, national).ok()??;
    Some(PhoneNumber {
        e164: text.to_owned(),
        country: country.to_owned(),
        kind,
    })
}

/// A pattern has no automaton, so nothing can be said.
struct Unusable;

/// Country and kind of a number that the library takes as it is.
fn judge<'a>(
    regions: &'a [Region],
    national: &str,
) -> Result<Option<(&'a str, NumberKind)>, Unusable> {
    // As the library does it: the region and the kind by the digits without leading zeros, whether
    // the number is valid by all of them.
    let significant = national.trim_start_matches('0');
    let Some(region) = source(regions, significant)? else {
        return Ok(None);
    };
    if significant.is_empty() || region.may_rewrite(national)? {
        return Ok(None);
    }
    let kind = region.kind(significant)?;
    if significant.len() == national.len() {
        return Ok(kind.map(|kind| (&*region.country, kind)));
    }
    let valid = match source(regions, national)? {
        Some(region) => region.kind(national)?.is_some(),
        None => false,
    };
    Ok(valid.then_some((&*region.country, kind.unwrap_or(NumberKind::Unknown))))
}

/// The region that the library assigns a number to, of those that share a country calling code.
fn source<'a>(regions: &'a [Region], national: &str) -> Result<Option<&'a Region>, Unusable> {
    if let [region] = regions {
        return Ok(Some(region));
    }
    for region in regions {
        let is_here = match &region.leading_digits {
            Some(pattern) => pattern.matches(national)?,
            None => region.kind(national)?.is_some(),
        };
        if is_here {
            return Ok(Some(region));
        }
    }
    Ok(None)
}

/// All regions, by country calling code, in the library's order.
struct Table(Vec<Box<[Region]>>);

impl Table {
    fn new() -> Table {
        let codes = 10_u16.pow(CODE_DIGITS_MAX as u32);
        let of_code = |code: u16| {
            let regions = DATABASE.by_code(&code).unwrap_or_default();
            regions.into_iter().map(Region::new).collect()
        };
        Table((0..codes).map(of_code).collect())
    }

    /// The regions of the shortest country calling code that `digits` begins with, and the rest.
    fn split<'a>(&self, digits: &'a str) -> Option<(&[Region], &'a str)> {
        (1..=CODE_DIGITS_MAX).find_map(|length| {
            let (code, national) = digits.split_at_checked(length)?;
            let regions = self.0.get(code.parse::<usize>().ok()?)?;
            (!regions.is_empty()).then_some((&**regions, national))
        })
    }
}

struct Region {
    country: String,
    meta: &'static Metadata,
    general: Kind,
    /// In the library's order.
    kinds: Vec<(NumberKind, Kind)>,
    fixed_line: Option<Kind>,
    mobile: Option<Kind>,
    /// Fixed lines and mobile numbers have the same pattern.
    indistinct: bool,
    leading_digits: Option<Pattern>,
    national_prefix_for_parsing: Option<Pattern>,
    /// Whether an empty match of `national_prefix_for_parsing` leaves a number as it is.
    empty_prefix_is_nothing: OnceLock<bool>,
}

impl Region {
    fn new(meta: &'static Metadata) -> Region {
        let d = meta.descriptors();
        let kinds = [
            (NumberKind::PremiumRate, d.premium_rate()),
            (NumberKind::TollFree, d.toll_free()),
            (NumberKind::SharedCost, d.shared_cost()),
            (NumberKind::Voip, d.voip()),
            (NumberKind::Personal, d.personal_number()),
            (NumberKind::Pager, d.pager()),
            (NumberKind::Uan, d.uan()),
            (NumberKind::Voicemail, d.voicemail()),
        ];
        let pattern_of = |d: Option<&'static Descriptor>| d.map(|d| d.national_number().as_str());
        Region {
            // `001` is the library's name of what belongs to no country.
            country: meta.id().to_owned(),
            meta,
            general: Kind::new(d.general()),
            kinds: kinds
                .into_iter()
                .filter_map(|(kind, d)| Some((kind, Kind::new(d?))))
                .collect(),
            fixed_line: d.fixed_line().map(Kind::new),
            mobile: d.mobile().map(Kind::new),
            indistinct: pattern_of(d.fixed_line()) == pattern_of(d.mobile()),
            leading_digits: meta.leading_digits().map(|p| Pattern::new(p.as_str())),
            national_prefix_for_parsing: meta
                .national_prefix_for_parsing()
                .map(|p| Pattern::new(p.as_str())),
            empty_prefix_is_nothing: OnceLock::new(),
        }
    }

    /// What kind of number it is, if it is one of this region.
    fn kind(&self, national: &str) -> Result<Option<NumberKind>, Unusable> {
        if !self.general.matches(national)? {
            return Ok(None);
        }
        for (kind, numbers) in &self.kinds {
            if numbers.matches(national)? {
                return Ok(Some(*kind));
            }
        }
        let is = |kind: &Option<Kind>| kind.as_ref().map_or(Ok(false), |k| k.matches(national));
        if is(&self.fixed_line)? {
            let either = self.indistinct || is(&self.mobile)?;
            return Ok(Some(if either {
                NumberKind::FixedLineOrMobile
            } else {
                NumberKind::FixedLine
            }));
        }
        Ok(is(&self.mobile)?.then_some(NumberKind::Mobile))
    }

    /// Whether the library might take a national prefix or a carrier's code off `national`, or write
    /// it in another way.
    fn may_rewrite(&self, national: &str) -> Result<bool, Unusable> {
        if (self.meta.national_prefix()).is_some_and(|prefix| national.starts_with(prefix)) {
            return Ok(true);
        }
        let Some(pattern) = &self.national_prefix_for_parsing else {
            return Ok(false);
        };
        Ok(match pattern.search(national, false)? {
            None => false,
            Some(0) => !self.empty_prefix_is_nothing(),
            Some(_) => true,
        })
    }

    /// Patterns have no look-around, so an empty match takes the same way through the pattern
    /// whatever follows: what its groups hold can be seen with the empty text. Without a group, or
    /// without a rule of how to rewrite, the library takes the match off and does nothing else.
    fn empty_prefix_is_nothing(&self) -> bool {
        *self.empty_prefix_is_nothing.get_or_init(|| {
            if self.meta.national_prefix_transform_rule().is_none() {
                return true;
            }
            self.meta
                .national_prefix_for_parsing()
                .and_then(|pattern| {
                    let groups = pattern.captures("")?;
                    Some(groups.get(groups.len() - 1).is_none())
                })
                .unwrap_or(false)
        })
    }
}

/// One kind of numbers of a region.
struct Kind {
    lengths: &'static [u16],
    pattern: Pattern,
}

impl Kind {
    fn new(descriptor: &'static Descriptor) -> Kind {
        Kind {
            lengths: descriptor.possible_length(),
            pattern: Pattern::new(descriptor.national_number().as_str()),
        }
    }

    fn matches(&self, national: &str) -> Result<bool, Unusable> {
        let possible = |length: &u16| usize::from(*length) == national.len();
        if !self.lengths.is_empty() && !self.lengths.iter().any(possible) {
            return Ok(false);
        }
        self.pattern.matches(national)
    }
}

/// A pattern of the metadata, matched from the first digit on. As in the library, what follows the
/// match does not matter.
struct Pattern {
    source: &'static str,
    /// `None` inside: it could not be built, and the library decides.
    automaton: OnceLock<Option<Box<dense::DFA<Vec<u32>>>>>,
}

impl Pattern {
    fn new(source: &'static str) -> Pattern {
        Pattern {
            source,
            automaton: OnceLock::new(),
        }
    }

    fn matches(&self, national: &str) -> Result<bool, Unusable> {
        Ok(self.search(national, true)?.is_some())
    }

    /// How many digits the match takes; the preferred match, unless any end will do (`earliest`).
    fn search(&self, national: &str, earliest: bool) -> Result<Option<usize>, Unusable> {
        let built = self.automaton.get_or_init(|| build(self.source));
        let automaton = built.as_ref().ok_or(Unusable)?;
        let input = Input::new(national)
            .anchored(Anchored::Yes)
            .earliest(earliest);
        let found = automaton.try_search_fwd(&input).map_err(|_| Unusable)?;
        Ok(found.map(|end| end.offset()))
    }
}

fn build(source: &str) -> Option<Box<dense::DFA<Vec<u32>>>> {
    // The largest has 19 KB. New metadata with a pattern far beyond that goes the slow way.
    const AUTOMATON_BYTES_MAX: usize = 1024 * 1024;
    let built = dense::Builder::new()
        // `\d` means ten digits here and nothing else: `plain` has looked.
        .syntax(
            syntax::Config::new()
                .unicode(false)
                .utf8(false)
                .ignore_whitespace(true),
        )
        .thompson(
            thompson::Config::new()
                .utf8(false)
                .which_captures(WhichCaptures::None),
        )
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Anchored)
                .accelerate(false)
                .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
                .determinize_size_limit(Some(AUTOMATON_BYTES_MAX)),
        )
        .build(source);
    match built {
        Ok(automaton) => Some(Box::new(automaton)),
        Err(error) => {
            tracing::warn!(%error, source, "a pattern of telephone numbers is left to the library");
            None
        }
    }
}

#[cfg(test)]
mod tests;
