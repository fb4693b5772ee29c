//! The part of WASI that ordinary code needs, made of the host's own values.
//!
//! Which interfaces are linked is an exact list; a component that imports anything else is refused by
//! name. A service sees the call's one instant as its clock and the call's own generator as its
//! randomness; a provider sees real time. Nobody gets files, arguments or an environment.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use countersign_types::{Clock, Entropy, UnixMillis};
use rand::rngs::StdRng;
use rand::{SeedableRng, TryRng};
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock, WasiClocks};
use wasmtime_wasi::filesystem::WasiFilesystem;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::WasiSockets;
use wasmtime_wasi::{WasiCtx, WasiView};

/// What a guest sees of the world, set anew for each run.
#[derive(Debug)]
pub(crate) struct World {
    /// The instant in milliseconds; 0: real time.
    instant_ms: AtomicU64,
    random: Mutex<StdRng>,
    output: Mutex<Vec<u8>>,
    output_max: usize,
}

impl World {
    pub(crate) fn new(output_max: usize) -> Arc<World> {
        Arc::new(World {
            instant_ms: AtomicU64::new(0),
            random: Mutex::new(StdRng::from_seed([0; 32])),
            output: Mutex::default(),
            output_max,
        })
    }

    /// Sets what the next run sees.
    pub(crate) fn set(&self, instant: Option<UnixMillis>, seed: [u8; 32]) {
        let instant = instant.map_or(0, |instant| instant.0);
        self.instant_ms.store(instant, Ordering::Relaxed);
        *lock(&self.random) = StdRng::from_seed(seed);
        lock(&self.output).clear();
    }

    /// What the guest has written to its standard output and error, in whole lines where it has
    /// written too much: half a line might end in half a code, which nobody would know for one.
    pub(crate) fn output(&self) -> String {
        let mut bytes = std::mem::take(&mut *lock(&self.output));
        if bytes.len() >= self.output_max {
            let lines = bytes.iter().rposition(|byte| *byte == b'\n');
            bytes.truncate(lines.unwrap_or(0));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A WASI context that shows `world`.
pub(crate) fn context(
    world: &Arc<World>,
    clock: &Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> WasiCtx {
    let mut seed = [0; 16];
    entropy.fill(&mut seed);
    let mut context = WasiCtx::builder();
    context
        .wall_clock(WallClock(world.clone(), clock.clone()))
        .monotonic_clock(MonotonicClock(world.clone(), std::time::Instant::now()))
        .secure_random(Random(world.clone()))
        .insecure_random(Random(world.clone()))
        // Of the instance, not of the run: a `HashMap`'s order is no decision.
        .insecure_random_seed(u128::from_ne_bytes(seed))
        .max_random_size(64 * 1024)
        .stdout(Output(world.clone()))
        .stderr(Output(world.clone()))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    context.build()
}

/// An empty table of handles, bounded.
pub(crate) fn table(handles_max: usize) -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(handles_max);
    table
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Offers the interfaces that every component may import.
pub(crate) fn link<T: WasiView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    use wasmtime_wasi::cli::WasiCliView;
    use wasmtime_wasi::clocks::WasiClocksView;
    use wasmtime_wasi::filesystem::WasiFilesystemView;

    io::error::add_to_linker::<T, HasTable>(linker, |t| t.ctx().table)?;
    io::poll::add_to_linker::<T, HasTable>(linker, |t| t.ctx().table)?;
    io::streams::add_to_linker::<T, HasTable>(linker, |t| t.ctx().table)?;
    clocks::wall_clock::add_to_linker::<T, WasiClocks>(linker, T::clocks)?;
    clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(linker, T::clocks)?;
    random::random::add_to_linker::<T, WasiRandom>(linker, |t| t.ctx().ctx.random())?;
    random::insecure::add_to_linker::<T, WasiRandom>(linker, |t| t.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(linker, |t| t.ctx().ctx.random())?;
    cli::exit::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::environment::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    filesystem::types::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    filesystem::preopens::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)
}

/// Offers sockets that refuse at each call: componentize-py links them into everything that it makes.
pub(crate) fn link_refusing_sockets<T: WasiView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    use wasmtime_wasi::sockets::WasiSocketsView;

    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<T, WasiSockets>(linker, &options, T::sockets)?;
    sockets::instance_network::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::tcp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::udp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)
}

struct WallClock(Arc<World>, Arc<dyn Clock>);

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        let now = match self.0.instant_ms.load(Ordering::Relaxed) {
            0 => self.1.now().0,
            instant => instant,
        };
        Duration::from_millis(now)
    }
}

struct MonotonicClock(Arc<World>, std::time::Instant);

impl HostMonotonicClock for MonotonicClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        match self.0.instant_ms.load(Ordering::Relaxed) {
            // Real time, for a provider's own time-outs.
            0 => u64::try_from(self.1.elapsed().as_nanos()).unwrap_or(u64::MAX),
            instant => instant.saturating_mul(1_000_000),
        }
    }
}

struct Random(Arc<World>);

impl TryRng for Random {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        lock(&self.0.random).try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        lock(&self.0.random).try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        lock(&self.0.random).try_fill_bytes(bytes)
    }
}

/// Standard output and error of a guest: a bounded part of the component's log.
#[derive(Clone)]
struct Output(Arc<World>);

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn wasmtime_wasi::p2::OutputStream> {
        Box::new(self.clone())
    }
}

impl Output {
    /// Keeps what there is room for; the rest is dropped, since a guest that writes much is no
    /// reason to fail its call.
    fn keep(&self, bytes: &[u8]) {
        let mut output = lock(&self.0.output);
        let room = self.0.output_max.saturating_sub(output.len());
        output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl wasmtime_wasi::p2::OutputStream for Output {
    fn write(&mut self, bytes: bytes::Bytes) -> wasmtime_wasi::p2::StreamResult<()> {
        self.keep(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> wasmtime_wasi::p2::StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> wasmtime_wasi::p2::StreamResult<usize> {
        Ok(8 * 1024)
    }
}

#[async_trait::async_trait]
impl wasmtime_wasi::p2::Pollable for Output {
    async fn ready(&mut self) {}
}

impl tokio::io::AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.keep(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &str, want: &str) {
        let world = World::new(16);
        Output(world.clone()).keep(written.as_bytes());
        assert_eq!(world.output(), want, "{written:?}");
    }

    #[test]
    fn output_that_is_too_long_ends_in_a_whole_line() {
        check("one\ntwo", "one\ntwo");
        check("one\n0123456789a", "one\n0123456789a");
        check("one\ncode 48123456", "one");
        check("one\ncode 4812\n6 and more", "one\ncode 4812");
        check("the code is 481234", "");
    }
}
