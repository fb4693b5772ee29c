//! The format of a backup: every row of a store at one point between two groups of commits, in one
//! file.
//!
//! ```text
//! head     "countersign backup\n", u32 format (1)
//! record   u8 kind, u32 length of the key, the key, u32 length of the row, the stored row
//!            1: a row, as it was read at some moment while the backup ran
//!            2: a row that was written while the backup ran
//!            3: a key whose row went while the backup ran; no row
//! end      u8 0, u64 rows of kind 1, u64 records of kinds 2 and 3
//! hash     SHA-256 of all before it
//! ```
//!
//! Numbers are big-endian. Rows of kind 1 come in the order of their keys, kinds 2 and 3 in commit
//! order; both may alternate. The state is that of all rows of kind 1 with all others put on top in
//! their order: so it is the state after the last group of commits that was passed on, exactly.

use std::io::{self, BufRead, Read, Write};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// How a backup begins.
pub(crate) const MAGIC: &[u8] = b"countersign backup\n";
const FORMAT: u32 = 1;

const END: u8 = 0;
const ROW: u8 = 1;
const PUT: u8 = 2;
const GONE: u8 = 3;

/// No key of a store is longer.
const KEY_BYTES_MAX: u32 = 64 * 1024;
/// No row of a store is longer.
const ROW_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupSummary {
    /// Rows that were read.
    pub rows: u64,
    /// Changes that were made to rows meanwhile.
    pub changes: u64,
    /// Of the file.
    pub bytes: u64,
}

/// Why a file is no whole backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupFileError {
    /// It is something else.
    #[error("it is not a backup of countersign")]
    Foreign,
    /// A later version of the program wrote it.
    #[error("it has format {0}, which this version does not read; use the version that wrote it")]
    Newer(u32),
    /// It ends too early, goes on after its end, or has changed.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

/// Writes a backup.
pub(crate) struct Writer<W> {
    out: W,
    hash: Context,
    summary: BackupSummary,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> io::Result<Writer<W>> {
        let mut writer = Writer {
            out,
            hash: Context::new(&SHA256),
            summary: BackupSummary::default(),
        };
        writer.bytes(MAGIC)?;
        writer.bytes(&FORMAT.to_be_bytes())?;
        Ok(writer)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.summary.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn field(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a row is too long"))?;
        self.bytes(&length.to_be_bytes())?;
        self.bytes(bytes)
    }

    /// A row as it was read.
    pub(crate) fn row(&mut self, key: &[u8], row: &[u8]) -> io::Result<()> {
        self.summary.rows += 1;
        self.bytes(&[ROW])?;
        self.field(key)?;
        self.field(row)
    }

    /// What a group has done to a row.
    pub(crate) fn change(&mut self, key: &[u8], row: Option<&[u8]>) -> io::Result<()> {
        self.summary.changes += 1;
        self.bytes(&[if row.is_some() { PUT } else { GONE }])?;
        self.field(key)?;
        row.map_or(Ok(()), |row| self.field(row))
    }

    /// The end; returns what is under `out`.
    pub(crate) fn end(mut self) -> io::Result<(W, BackupSummary)> {
        self.bytes(&[END])?;
        self.bytes(&self.summary.rows.to_be_bytes())?;
        self.bytes(&self.summary.changes.to_be_bytes())?;
        let hash = self.hash.clone().finish();
        self.out.write_all(hash.as_ref())?;
        self.summary.bytes += hash.as_ref().len() as u64;
        Ok((self.out, self.summary))
    }
}

/// One record of a backup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Row(Vec<u8>, Vec<u8>),
    Change(Vec<u8>, Option<Vec<u8>>),
}

struct Reader<R> {
    from: R,
    hash: Context,
    summary: BackupSummary,
}

impl<R: BufRead> Reader<R> {
    fn new(from: R) -> Result<Reader<R>, BackupFileError> {
        let mut reader = Reader {
            from,
            hash: Context::new(&SHA256),
            summary: BackupSummary::default(),
        };
        match reader.bytes(MAGIC.len() as u32) {
            Ok(magic) if magic == MAGIC => {}
            Err(BackupFileError::Read(error)) => return Err(BackupFileError::Read(error)),
            _ => return Err(BackupFileError::Foreign),
        }
        match reader.number()? {
            FORMAT => Ok(reader),
            format => Err(BackupFileError::Newer(format)),
        }
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, BackupFileError> {
        // A length that is not true must not take memory that the file does not fill.
        let mut bytes = Vec::new();
        (&mut self.from)
            .take(length.into())
            .read_to_end(&mut bytes)
            .map_err(BackupFileError::Read)?;
        if bytes.len() < length as usize {
            return Err(BackupFileError::Damaged("it ends too early"));
        }
        self.hash.update(&bytes);
        self.summary.bytes += bytes.len() as u64;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupFileError> {
        let bytes = self.bytes(N as u32)?;
        <[u8; N]>::try_from(bytes).map_err(|_| BackupFileError::Damaged("it ends too early"))
    }

    fn number(&mut self) -> Result<u32, BackupFileError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn field(&mut self, longest: u32) -> Result<Vec<u8>, BackupFileError> {
        match self.number()? {
            length if length <= longest => self.bytes(length),
            _ => Err(BackupFileError::Damaged("a length in it is too large")),
        }
    }

    /// The next record, or `None` after the last one, where counts and hash are right.
    fn next(&mut self) -> Result<Option<Record>, BackupFileError> {
        let [kind] = self.array()?;
        match kind {
            END => self.end().map(|()| None),
            ROW => {
                self.summary.rows += 1;
                let key = self.field(KEY_BYTES_MAX)?;
                Ok(Some(Record::Row(key, self.field(ROW_BYTES_MAX)?)))
            }
            PUT | GONE => {
                self.summary.changes += 1;
                let key = self.field(KEY_BYTES_MAX)?;
                let row = match kind {
                    PUT => Some(self.field(ROW_BYTES_MAX)?),
                    _ => None,
                };
                Ok(Some(Record::Change(key, row)))
            }
            _ => Err(BackupFileError::Damaged("a record in it is of no kind")),
        }
    }

    fn end(&mut self) -> Result<(), BackupFileError> {
        let (rows, changes) = (self.summary.rows, self.summary.changes);
        let counted = [
            u64::from_be_bytes(self.array()?),
            u64::from_be_bytes(self.array()?),
        ];
        if counted != [rows, changes] {
            return Err(BackupFileError::Damaged(
                "it has fewer records than it says",
            ));
        }
        let hash = self.hash.clone().finish();
        let stored: [u8; SHA256_OUTPUT_LEN] = self.array()?;
        if stored != hash.as_ref() {
            return Err(BackupFileError::Damaged("its hash is another one"));
        }
        if !self
            .from
            .fill_buf()
            .map_err(BackupFileError::Read)?
            .is_empty()
        {
            return Err(BackupFileError::Damaged("it goes on after its end"));
        }
        Ok(())
    }
}

/// Reads a whole backup and hands each record to `each`. What `each` was given is good only when this
/// returns: the hash stands at the end.
pub(crate) fn read<E: From<BackupFileError>>(
    from: impl BufRead,
    mut each: impl FnMut(Record) -> Result<(), E>,
) -> Result<BackupSummary, E> {
    let mut reader = Reader::new(from)?;
    while let Some(record) = reader.next()? {
        each(record)?;
    }
    Ok(reader.summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).expect("begun");
        writer.row(b"a", b"1").expect("written");
        writer.row(b"b", b"").expect("written");
        writer.change(b"a", Some(b"2")).expect("written");
        writer.change(b"b", None).expect("written");
        let (bytes, summary) = writer.end().expect("ended");
        assert_eq!(summary.bytes, bytes.len() as u64);
        bytes
    }

    fn records(bytes: &[u8]) -> Result<Vec<Record>, BackupFileError> {
        let mut records = Vec::new();
        read(bytes, |record| {
            records.push(record);
            Ok::<_, BackupFileError>(())
        })?;
        Ok(records)
    }

    #[test]
    fn what_was_written_is_read_in_its_order() {
        let want = vec![
            Record::Row(b"a".to_vec(), b"1".to_vec()),
            Record::Row(b"b".to_vec(), Vec::new()),
            Record::Change(b"a".to_vec(), Some(b"2".to_vec())),
            Record::Change(b"b".to_vec(), None),
        ];
        assert_eq!(records(&sample()).expect("whole"), want);
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_refused() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(records(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_file_with_any_bit_turned_over_is_refused() {
        let whole = sample();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(records(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_file_that_goes_on_after_its_end_is_refused() {
        let longer = [sample(), vec![0]].concat();
        assert!(matches!(records(&longer), Err(BackupFileError::Damaged(_))));
    }

    #[test]
    fn a_foreign_and_a_newer_file_are_told_as_such() {
        assert!(matches!(
            records(b"PK\x03\x04"),
            Err(BackupFileError::Foreign)
        ));
        let newer = [MAGIC, &2u32.to_be_bytes()].concat();
        assert!(matches!(records(&newer), Err(BackupFileError::Newer(2))));
    }
}
