//! More than the server can do: first as fast as it answers, then exactly so many requests a second,
//! then three times as many, on a schedule that waits for nobody.

use std::path::Path;

use crate::Failure;
use crate::cores::Apart;
use crate::load::{Load, Measured};
use crate::server::Server;

/// How many times the capacity is asked for.
const TIMES: f64 = 3.0;

/// Connections for each that finds the capacity: so many that a request that is due finds one free,
/// since a schedule that waits for connections asks no more than is answered.
const CONNECTIONS: usize = 8;

/// Connections that find the capacity: as many calls as the server runs at once on its one core. Of more some
/// are refused, and who asks again at once then measures refusals.
const CAPACITY_CONNECTIONS: usize = 32;

/// One round.
#[derive(Clone, Debug)]
pub(crate) struct Overload {
    /// One request after the other on each connection.
    pub(crate) capacity: Measured,
    /// As many a second, as a schedule.
    pub(crate) once: Measured,
    /// Three times as many.
    pub(crate) times: Measured,
}

/// Measures a server that has the first core for itself.
pub(crate) async fn measure(
    binary: &Path,
    folder: &Path,
    load: &Load,
) -> Result<Overload, Failure> {
    let folder = folder.join("overload");
    std::fs::create_dir(&folder)?;
    let apart = Apart::new()?;
    let mut server = Server::start_refusing(apart.command(binary), &folder).await?;
    // On a machine that is busy with something else this may already be too much now and then.
    let found = Load {
        overload: true,
        connections: CAPACITY_CONNECTIONS,
        ..*load
    };
    let capacity = server.send(&found).await?.measured;
    let rate = capacity.per_second();
    let once = server.overload(&scheduled(load, rate)).await?;
    let times = server.overload(&scheduled(load, TIMES * rate)).await?;
    Ok(Overload {
        capacity,
        once,
        times,
    })
}

fn scheduled(load: &Load, per_second: f64) -> Load {
    Load {
        connections: CONNECTIONS * load.connections,
        per_second: Some(per_second),
        overload: true,
        ..*load
    }
}
