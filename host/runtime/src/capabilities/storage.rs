//! `countersign:service/storage`: a component's own key space, inside the call's transaction.

use countersign_store::{Section, SumAdd, Take};
use countersign_types::UnixMillis;

use super::{Access, View, count};
use crate::bindings::service::countersign::service::storage::{Entry, Host, Page, Range};
use crate::call::misuse;

const VALUE_BYTES_MAX: usize = 32_768;
const GET_MANY_MAX: usize = 64;
const SCAN_MAX: u32 = 256;
const TAKES_MAX: u32 = 16;
const WINDOW_MS: std::ops::RangeInclusive<u64> = 1_000..=366 * 24 * 3600 * 1_000;

impl View<'_> {
    async fn read(&mut self, key: &str) -> wasmtime::Result<Option<Vec<u8>>> {
        let physical = self.key(key)?;
        let section = match self.run.transaction.service(&physical).await {
            Ok(section) => section,
            Err(error) => return Err(self.run.failed(error)),
        };
        section
            .map(|section| self.readable(key, section))
            .transpose()
    }

    /// The value of a section whose state version the component can read. Sums have none.
    fn readable(&self, key: &str, section: Section) -> wasmtime::Result<Vec<u8>> {
        if section.state == 0 || self.call.manifest.state_reads.contains(&section.state) {
            return Ok(section.value);
        }
        misuse(format!(
            "the row `{key}` has state version {}, which this component cannot read",
            section.state
        ))
    }
}

impl Host for Access<'_> {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        self.view()?.read(&key).await
    }

    async fn get_many(&mut self, keys: Vec<String>) -> wasmtime::Result<Vec<Option<Vec<u8>>>> {
        if keys.len() > GET_MANY_MAX {
            return misuse(format!("more than {GET_MANY_MAX} keys in one `get-many`"));
        }
        let mut view = self.view()?;
        let mut values = Vec::with_capacity(keys.len());
        for key in &keys {
            values.push(view.read(key).await?);
        }
        Ok(values)
    }

    async fn put(
        &mut self,
        key: String,
        value: Vec<u8>,
        expires: Option<u64>,
    ) -> wasmtime::Result<()> {
        let view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        if value.len() > VALUE_BYTES_MAX {
            return misuse(format!("a value is longer than {VALUE_BYTES_MAX} bytes"));
        }
        let section = Section {
            state: view.call.manifest.state_writes,
            expires: expires.map(UnixMillis),
            value,
        };
        match view.run.transaction.set_service(&key, Some(section)).await {
            Ok(()) => Ok(()),
            Err(error) => Err(view.run.failed(error)),
        }
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        let view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        match view.run.transaction.set_service(&key, None).await {
            Ok(()) => Ok(()),
            Err(error) => Err(view.run.failed(error)),
        }
    }

    async fn scan(
        &mut self,
        range: Range,
        limit: u32,
        cursor: Option<String>,
    ) -> wasmtime::Result<Page> {
        if !(1..=SCAN_MAX).contains(&limit) {
            return misuse(format!("the limit of a scan must be 1 to {SCAN_MAX}"));
        }
        let view = self.view()?;
        // An empty start is the start of the key space.
        let space = view.run.key("");
        let from = cursor.unwrap_or(range.from);
        // A page that ended between two keys goes on one byte after the last.
        if from.len() > 257 || range.to.as_ref().is_some_and(|to| to.len() > 256) {
            return misuse("a storage key has more than 256 bytes");
        }
        let from = [space.as_slice(), from.as_bytes()].concat();
        let to = match range.to {
            Some(to) => [space.as_slice(), to.as_bytes()].concat(),
            // `0` follows the `/` that ends the component's name.
            None => [&space[..space.len() - 1], b"0"].concat(),
        };
        view.may_touch()?;
        let (found, next) = match view.run.transaction.scan(&from, &to, limit as usize).await {
            Ok(found) => found,
            Err(error) => return Err(view.run.failed(error)),
        };
        let text = |key: &[u8]| String::from_utf8_lossy(&key[space.len()..]).into_owned();
        let mut entries = Vec::with_capacity(found.len());
        for (key, section) in found {
            let key = text(&key);
            let value = view.readable(&key, section)?;
            entries.push(Entry { key, value });
        }
        Ok(Page {
            entries,
            next: next.map(|key| text(&key)),
        })
    }

    async fn add(&mut self, key: String, delta: i64, expires: Option<u64>) -> wasmtime::Result<()> {
        let view = self.view()?;
        view.may_write()?;
        let sum = SumAdd {
            key: view.key(&key)?,
            delta,
            expires: expires.map(UnixMillis),
        };
        match view.run.transaction.add(sum) {
            Ok(()) => Ok(()),
            Err(error) => Err(view.run.failed(error)),
        }
    }

    async fn take(
        &mut self,
        key: String,
        amount: u64,
        max: u64,
        window: u64,
    ) -> wasmtime::Result<Result<(), u64>> {
        let view = self.view()?;
        view.may_write()?;
        count("takes", &mut view.run.used.takes, TAKES_MAX)?;
        if amount > max {
            return misuse(format!("a take of {amount} where the limit is {max}"));
        }
        if !WINDOW_MS.contains(&window) {
            return misuse("the window of a limit must be 1 s to 366 days");
        }
        let take = Take {
            key: view.key(&key)?,
            amount,
            max,
            window_ms: window,
        };
        match view.run.transaction.take(take).await {
            Ok(answer) => Ok(answer.map_err(|until| until.0)),
            Err(error) => Err(view.run.failed(error)),
        }
    }
}
