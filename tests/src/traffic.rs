//! Days of messages through the real server, always the same ones: what a dashboard has to show.
//!
//! Customers in eight countries ask for codes, three providers carry them, receipts come after a while,
//! most codes are typed in. The wall clock is ours, so a month passes in a minute, and every time of it is
//! the same at each run. Nothing is made up behind the server's back.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use crate::messages_api::{ACCOUNT_SID, AUTH_TOKEN, Message, PHONE_NUMBER};
use crate::{FakeTwilio, Receipt, Reply, Server, WallClock, eventually, join_all};

/// The administrator's token of the server.
pub const ADMIN_TOKEN: &str = "the-administrators-token-of-the-tests";

/// When the first day begins: a Sunday.
const BEGIN: &str = "2026-03-01T00:00:00Z";
/// The hours at which messages are sent, with their share of a day's hundred.
const HOURS: [(u64, usize); 8] = [
    (1, 4),
    (7, 12),
    (9, 18),
    (11, 16),
    (13, 14),
    (16, 15),
    (19, 14),
    (22, 7),
];
/// The day on which one provider has a bad time.
const BAD_DAY: u64 = 18;

/// Where customers are.
struct Country {
    /// The beginning of its numbers, and how many digits follow.
    prefix: &'static str,
    digits: usize,
    /// Of a hundred messages.
    share: usize,
    /// What the provider says that one costs; else it is estimated.
    price: Option<&'static str>,
    /// Of a thousand messages.
    arriving: u64,
    /// Of a hundred codes that arrive.
    verified: u64,
    /// The usual time from sent to delivered.
    delay_ms: u64,
}

const fn country(
    prefix: &'static str,
    digits: usize,
    share: usize,
    price: Option<&'static str>,
    [arriving, verified, delay_ms]: [u64; 3],
) -> Country {
    Country {
        prefix,
        digits,
        share,
        price,
        arriving,
        verified,
        delay_ms,
    }
}

const COUNTRIES: [Country; 8] = [
    country("+1202456", 4, 34, Some("-0.0083"), [987, 88, 1_500]),
    country("+4474001", 5, 14, Some("-0.0463"), [992, 90, 1_300]),
    country("+49151234", 5, 11, Some("-0.0988"), [990, 91, 1_800]),
    country("+3361234", 4, 8, Some("-0.0715"), [984, 89, 2_100]),
    country("+9198765", 5, 15, None, [941, 79, 4_200]),
    country("+55119612", 5, 8, Some("-0.0325"), [968, 84, 2_600]),
    country("+8190123", 5, 6, None, [981, 86, 2_200]),
    country("+23480212", 5, 4, None, [903, 71, 6_400]),
];

/// A server that has seen some days.
#[derive(Debug)]
pub struct Traffic {
    /// The server, with [`ADMIN_TOKEN`].
    pub server: Server,
    /// What it sends through.
    pub twilio: FakeTwilio,
    /// Its time of day.
    pub clock: WallClock,
    /// How many messages it has accepted.
    pub messages: usize,
    chance: Chance,
    /// How many numbers of each country were used.
    used: [usize; COUNTRIES.len()],
}

impl Traffic {
    /// A server without messages, at the beginning of the first day.
    pub async fn none() -> Self {
        let (twilio, clock) = (FakeTwilio::start().await, WallClock::at(BEGIN));
        for country in &COUNTRIES {
            if let Some(price) = country.price {
                twilio.price(country.prefix, price);
            }
        }
        let builder = Server::builder()
            .config(&configuration(&twilio.base_url()))
            .callbacks()
            .clock(&clock)
            .env("TEST_AUTH_TOKEN", AUTH_TOKEN)
            .env("COUNTERSIGN_ADMIN_TOKEN", ADMIN_TOKEN);
        Self {
            server: builder.start().await,
            twilio,
            clock,
            messages: 0,
            chance: Chance(0x636f_756e_7465_7273),
            used: [0; COUNTRIES.len()],
        }
    }

    /// So many days of about `a_day` messages, the last of them until the afternoon; then everything is
    /// counted.
    pub async fn of(days: u64, a_day: usize) -> Self {
        let mut traffic = Self::none().await;
        for day in 0..days {
            for (hour, share) in HOURS {
                if day + 1 < days || hour < 17 {
                    let messages = traffic.messages_at(day, a_day * share / 100);
                    traffic.hour(day, hour, messages).await;
                }
            }
        }
        traffic.wait_until(days.saturating_sub(1), 17, 0);
        traffic.counted().await;
        traffic
    }

    /// Business grows a little, and rests on weekends.
    fn messages_at(&mut self, day: u64, usual: usize) -> usize {
        let weekday = if matches!(day % 7, 0 | 6) { 62 } else { 100 };
        let growth = 85 + usize::try_from(day).unwrap_or(0);
        let chance = 88 + usize::try_from(self.chance.below(25)).unwrap_or(0);
        (usual * weekday * growth * chance / 1_000_000).max(1)
    }

    /// Never back, however long the last messages took.
    fn wait_until(&self, day: u64, hour: u64, second: u64) {
        let begin: jiff::Timestamp = BEGIN.parse().unwrap();
        let seconds = (day * 24 + hour) * 3_600 + second;
        let wanted = begin + Duration::from_secs(seconds);
        self.clock.set(wanted.max(self.clock.now()));
    }

    /// Messages at one hour of one day, from asking for them to their receipts and codes.
    async fn hour(&mut self, day: u64, hour: u64, messages: usize) {
        let mut left = messages;
        let mut minute = 0;
        while left > 0 {
            let batch = left.min(40);
            let second = minute * 60 + self.chance.below(50);
            self.wait_until(day, hour, second);
            self.batch(day, batch).await;
            left -= batch;
            minute += 12;
        }
    }

    async fn batch(&mut self, day: u64, messages: usize) {
        let chosen: Vec<(usize, String)> = (0..messages).map(|_| self.number()).collect();
        for (_, phone) in &chosen {
            if self.chance.below(1_000) < 6 {
                // A number that has answered STOP.
                self.twilio.next_to(phone, [Reply::error(400, 21610)]);
            }
        }
        self.twilio.always(Reply::Hang);
        let asked = self.twilio.posts();
        let sends = chosen.iter().map(|(_, phone)| self.server.send(phone));
        let answers = join_all(sends).await;
        let ids = answers.into_iter().map(|answer| {
            let answer = answer.expect_status(200).json();
            answer["messageId"].as_str().unwrap().to_owned()
        });
        let ids: Vec<String> = ids.collect();
        self.messages += messages;
        self.twilio.wait_for_posts(asked + messages).await;
        let queue_ms = self.chance.about(60, 40);
        self.clock.advance(Duration::from_millis(queue_ms));
        self.twilio.release();
        for id in &ids {
            self.sent(id).await;
        }
        self.receipts(day, &chosen).await;
    }

    /// Waits until a message has left the queue.
    async fn sent(&self, id: &str) {
        let path = format!("/api/messages/{id}");
        let what = format!("{id} waits no more");
        eventually(&what, async || {
            let story = self.server.get(&path).await.expect_status(200).json();
            (story["status"] != "queued").then_some(())
        })
        .await;
    }

    /// What becomes of them: some do not arrive, and most codes are typed in.
    async fn receipts(&mut self, day: u64, chosen: &[(usize, String)]) {
        let mut news: Vec<(u64, Message, bool, bool)> = Vec::new();
        let accepted = self.twilio.messages();
        for (at, phone) in chosen {
            let country = &COUNTRIES[*at];
            let (delay, arrives, verifies, told) = (
                self.chance.about(country.delay_ms, 70),
                self.chance.below(1_000),
                self.chance.below(100),
                self.chance.below(1_000),
            );
            let is_bad = day == BAD_DAY && matches!(country.prefix, "+9198765" | "+8190123");
            let arriving = if is_bad { 560 } else { country.arriving };
            let message = accepted.iter().rev().find(|message| message.to == *phone);
            let Some(message) = message else { continue };
            if told < 7 {
                continue;
            }
            let delay = if is_bad { delay * 6 } else { delay };
            let verified = arrives < arriving && verifies < country.verified;
            news.push((delay, message.clone(), arrives < arriving, verified));
        }
        news.sort_by_key(|(delay, ..)| *delay);
        let mut passed = 0;
        for some in news.chunks(6) {
            let delay = some[some.len() / 2].0;
            self.clock.advance(Duration::from_millis(delay - passed));
            passed = delay;
            let receipts = some.iter().map(|(_, message, arrives, _)| {
                let receipt = match arrives {
                    true => Receipt::of(message, "delivered"),
                    false => Receipt::of(message, "undelivered").with("ErrorCode", "30003"),
                };
                let client = self.server.client();
                async move { receipt.post(&client).await.expect_status(204) }
            });
            join_all(receipts).await;
        }
        self.clock.advance(Duration::from_secs(15));
        let client = &self.server;
        let checks = news.iter().filter(|(.., verified)| *verified);
        let checks = checks.map(|(_, message, ..)| async move {
            let answer = client.verify(&message.to, &message.code()).await;
            answer.expect_status(200)
        });
        join_all(checks).await;
    }

    /// A number that nobody has used, and its country.
    fn number(&mut self) -> (usize, String) {
        let mut at = usize::try_from(self.chance.below(100)).unwrap_or(0);
        let mut chosen = 0;
        for (index, country) in COUNTRIES.iter().enumerate() {
            if at < country.share {
                chosen = index;
                break;
            }
            at -= country.share;
        }
        let (country, used) = (&COUNTRIES[chosen], &mut self.used[chosen]);
        *used += 1;
        let phone = format!("{}{used:0width$}", country.prefix, width = country.digits);
        (chosen, phone)
    }

    /// Waits until all messages are in the figures.
    pub async fn counted(&self) {
        let path = "/api/analytics/dashboard?start=2026-01-01&end=2027-12-31";
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", bearer.as_str())];
        let client = self.server.client().without_key();
        let mut before = Value::Null;
        let what = format!("{} messages are counted", self.messages);
        eventually(&what, async || {
            let answer = client.request(Method::GET, path, &headers, "").await;
            let figures = answer.unwrap().expect_status(200).json();
            // Receipts and codes come after: they are all there when nothing changes any more.
            let all = figures["stats"]["total"] == self.messages && figures == before;
            before = figures;
            if !all {
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            all.then_some(())
        })
        .await;
    }
}

/// Three accounts, as three providers.
fn configuration(base_url: &str) -> String {
    let provider = |name: &str| {
        format!(
            r#"
[[provider]]
name = "{name}"
component = "provider-twilio"
settings = {{ account-sid = "{ACCOUNT_SID}", from = "{PHONE_NUMBER}", base-url = "{base_url}" }}
credentials = {{ auth-token = {{ env = "TEST_AUTH_TOKEN" }} }}
"#
        )
    };
    let routes = [
        ("IN", "asia-direct"),
        ("JP", "asia-direct"),
        ("GB", "europe"),
        ("DE", "europe"),
        ("FR", "europe"),
    ];
    let routes = routes.map(|(country, provider)| {
        format!("[[route]]\ncountry = \"{country}\"\nproviders = [\"{provider}\", \"worldwide\"]\n")
    });
    [
        provider("worldwide"),
        provider("europe"),
        provider("asia-direct"),
        routes.concat(),
        "[[route]]\nproviders = [\"worldwide\"]\n".to_owned(),
        "[analytics]\ncurrency = \"USD\"\n".to_owned(),
        "[analytics.prices.asia-direct]\nIN = \"0.0212\"\nJP = \"0.0687\"\n".to_owned(),
        "[analytics.prices.worldwide]\ndefault = \"0.0510\"\n".to_owned(),
    ]
    .concat()
}

/// Numbers by chance, always the same ones (SplitMix64).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `bound - 1`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Around `usual`, now and then much more: the more, the larger `spread`, in percent.
    fn about(&mut self, usual: u64, spread: u64) -> u64 {
        // The sum of some is nearly normal; its power is nearly how long things take.
        let sum: u64 = (0..6).map(|_| self.below(1_000)).sum();
        let normal = (sum as f64 - 2_997.0) / 707.0;
        let factor = (normal * spread as f64 / 100.0).exp();
        (usual as f64 * factor) as u64 + 1
    }
}
