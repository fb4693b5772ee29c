//! The control of the power tests: sled as it is, without the host's `sync_file_range`.
//!
//! `stock-sled write FOLDER` writes rows, flushes after each, and then says its number, for ever.
//! `stock-sled check FOLDER COUNT` ends with 0 where rows 1 to COUNT are there.

use std::io::Write;
use std::path::Path;

/// A row of the size of a message's, so that the file grows as the server's does.
const ROW: [u8; 350] = [7; 350];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write", folder] => write(Path::new(folder)),
        ["check", folder, count] => check(Path::new(folder), count.parse()?),
        _ => Err("usage: stock-sled write FOLDER | check FOLDER COUNT".into()),
    }
}

fn write(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let store = sled::Config::new().path(folder).open()?;
    // The names are durable, so that what is lost is lost by the flush alone.
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    let mut out = std::io::stdout().lock();
    for number in 1u64.. {
        store.insert(number.to_be_bytes(), ROW.as_slice())?;
        store.flush()?;
        writeln!(out, "{number}")?;
        out.flush()?;
    }
    Ok(())
}

fn check(folder: &Path, count: u64) -> Result<(), Box<dyn std::error::Error>> {
    let store = sled::Config::new().path(folder).open()?;
    for number in 1..=count {
        if store.get(number.to_be_bytes())?.as_deref() != Some(ROW.as_slice()) {
            return Err(format!("row {number} of {count} is lost").into());
        }
    }
    Ok(())
}
