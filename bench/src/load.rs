//! The load generator: so many keep-alive connections, one request after the other on each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::Failure;
use crate::process::Cpu;

/// Latencies are kept from a microsecond to a minute, to three digits.
const LATENCY_US_MAX: u64 = 60_000_000;

/// How much load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Connections, or tasks.
    pub(crate) connections: usize,
    /// For how long requests are begun.
    pub(crate) duration: Duration,
    /// How many requests a second, over all connections; `None`: as many as are answered.
    pub(crate) per_second: Option<f64>,
    /// Whether 503 is an answer like any other, kept apart, and latency counts from when a request was
    /// due whatever made it late: the timer and this generator too.
    pub(crate) overload: bool,
}

/// What of a schedule that asks for too much goes before the measurement: until then the server finds out
/// that it is no burst.
const SETTLING: Duration = Duration::from_millis(500);

/// Where requests go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddr,
    /// The path of each `POST`.
    pub(crate) path: &'static str,
    /// The API key, where one is needed.
    pub(crate) key: Option<&'static str>,
}

/// The body of the `n`th request; `None` ends the measurement.
pub(crate) type Bodies = Arc<dyn Fn(u64) -> Option<Bytes> + Send + Sync>;

/// Whether a status and a body are what the measurement is about.
pub(crate) type Expected = fn(u16, &[u8]) -> bool;

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Expected answers.
    pub(crate) answers: u64,
    /// The first answer that was another one.
    pub(crate) unexpected: Option<String>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// In microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Of answers with the status 503, where they are counted, in microseconds.
    pub(crate) refused: Histogram<u64>,
    /// Expected answers before the measurement.
    pub(crate) answers_before: u64,
    /// Answers with the status 503 before the measurement.
    pub(crate) refused_before: u64,
    /// Processor time of the server for one answer, by the names of its threads, in microseconds;
    /// empty where it is not known.
    pub(crate) cpu_us: BTreeMap<String, f64>,
}

impl Measured {
    /// Nothing yet.
    pub(crate) fn new() -> Result<Measured, Failure> {
        Ok(Measured {
            answers: 0,
            unexpected: None,
            elapsed: Duration::ZERO,
            latency: Histogram::new_with_max(LATENCY_US_MAX, 3)?,
            refused: Histogram::new_with_max(LATENCY_US_MAX, 3)?,
            answers_before: 0,
            refused_before: 0,
            cpu_us: BTreeMap::new(),
        })
    }

    /// Counts an answer that came after `latency`.
    pub(crate) fn count(&mut self, latency: Duration) {
        self.answers += 1;
        self.latency.saturating_record(microseconds(latency));
    }

    /// Adds what another task has measured in the same time.
    pub(crate) fn merge(&mut self, other: Measured) -> Result<(), Failure> {
        self.answers += other.answers;
        self.unexpected = self.unexpected.take().or(other.unexpected);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latency.add(other.latency)?;
        self.refused.add(other.refused)?;
        self.answers_before += other.answers_before;
        self.refused_before += other.refused_before;
        Ok(())
    }

    /// Expected answers a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.count_as_float() / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Shares out what the server has used since `before`.
    pub(crate) fn share_cpu(&mut self, before: &Cpu, after: Cpu) {
        let answers = self.count_as_float().max(1.0);
        let each = after.into_iter().map(|(name, time)| {
            let before = before.get(&name).copied().unwrap_or_default();
            let used = time.saturating_sub(before).as_secs_f64() * 1e6;
            (name, used / answers)
        });
        self.cpu_us = each.collect();
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn count_as_float(&self) -> f64 {
        self.answers as f64
    }
}

/// Sends load to `target`. Connections are made before the clock starts; what has begun when the
/// time is over is waited for and counts.
pub(crate) async fn run(
    target: Target,
    load: Load,
    bodies: Bodies,
    expected: Expected,
) -> Result<Measured, Failure> {
    let barrier = Arc::new(Barrier::new(load.connections));
    let next = Arc::new(AtomicU64::new(0));
    let plan = Arc::new(Plan::default());
    let mut tasks = JoinSet::new();
    for _ in 0..load.connections {
        let (barrier, next, bodies) = (barrier.clone(), next.clone(), bodies.clone());
        let plan = plan.clone();
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tasks.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let requests = async {
                barrier.wait().await;
                let pace = Pace::new(load, plan);
                let mut connection = Connection::new(target, sender)?;
                let mut measured = Measured::new()?;
                while let Some(due) = pace.next().await {
                    let Some(body) = bodies(next.fetch_add(1, Ordering::Relaxed)) else {
                        break;
                    };
                    let (status, answer) = connection.post(body).await?;
                    let (is_expected, is_before) = (expected(status, &answer), pace.settles(due));
                    if is_expected && is_before {
                        measured.answers_before += 1;
                    } else if is_expected {
                        measured.count(due.elapsed());
                    } else if load.overload && status == 503 && is_before {
                        measured.refused_before += 1;
                    } else if load.overload && status == 503 {
                        let latency = microseconds(due.elapsed());
                        measured.refused.saturating_record(latency);
                    } else if measured.unexpected.is_none() {
                        let text = String::from_utf8_lossy(&answer);
                        measured.unexpected = Some(format!("{status} {text}"));
                    }
                }
                measured.elapsed = pace.elapsed();
                Ok::<_, Failure>(measured)
            };
            // The connection is driven by the task that uses it: one task less to wake.
            tokio::select! {
                measured = requests => measured,
                ended = &mut connection => Err(match ended {
                    Ok(()) => "the server closed a connection".into(),
                    Err(error) => Failure::from(error),
                }),
            }
        });
    }
    let mut all = Measured::new()?;
    while let Some(measured) = tasks.join_next().await {
        all.merge(measured??)?;
    }
    Ok(all)
}

fn microseconds(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// One connection's requests.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    path: &'static str,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl Connection {
    fn new(target: Target, sender: SendRequest<Full<Bytes>>) -> Result<Connection, Failure> {
        let bearer = |key| HeaderValue::try_from(format!("Bearer {key}"));
        Ok(Connection {
            sender,
            path: target.path,
            host: HeaderValue::try_from(target.address.to_string())?,
            authorization: target.key.map(bearer).transpose()?,
        })
    }

    async fn post(&mut self, body: Bytes) -> Result<(u16, Bytes), Failure> {
        let mut request = Request::post(self.path).body(Full::new(body))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok((head.status.as_u16(), body.collect().await?.to_bytes()))
    }
}

/// What the connections share of a plan.
#[derive(Debug, Default)]
struct Plan {
    started: OnceLock<Instant>,
    /// How many of the planned requests have been taken.
    taken: AtomicU64,
}

/// When a connection begins its requests. A planned request is written by the first connection that
/// is free, as clients of their own would do it: one slow answer makes nobody else late.
struct Pace {
    started: Instant,
    load: Load,
    plan: Arc<Plan>,
}

impl Pace {
    fn new(load: Load, plan: Arc<Plan>) -> Pace {
        Pace {
            started: *plan.started.get_or_init(Instant::now),
            load,
            plan,
        }
    }

    /// Waits until the next request is due; returns what its latency counts from. A request that is
    /// late because no connection was free counts from when it was planned, so that a stall is seen
    /// by all requests that it hits (no "coordinated omission").
    async fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let ends = self.started + self.settling() + self.load.duration;
        let Some(rate) = self.load.per_second else {
            return (now < ends).then_some(now);
        };
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let number = self.plan.taken.fetch_add(1, Ordering::Relaxed) as f64;
        let planned = self.started + Duration::from_secs_f64(number / rate.max(1.0));
        if planned >= ends {
            return None;
        }
        if planned <= now {
            return Some(planned);
        }
        tokio::time::sleep_until(planned.into()).await;
        if self.load.overload {
            return Some(planned);
        }
        // The timer has a resolution of a millisecond: how late it was is not the server's doing.
        Some(Instant::now())
    }

    fn settling(&self) -> Duration {
        match self.load.overload && self.load.per_second.is_some() {
            true => SETTLING,
            false => Duration::ZERO,
        }
    }

    /// Whether a request that was due then comes before the measurement.
    fn settles(&self, due: Instant) -> bool {
        due < self.started + self.settling()
    }

    /// Since the beginning of the measurement.
    fn elapsed(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.settling())
    }
}
