//! What the rules need of the host: the imports of `countersign:service/analytics-service` as a trait,
//! so that the same rules run inside the component and in tests.

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Instant = u64;

/// Milliseconds.
pub type Duration = u64;

/// The imports of the component, within one call. Each method is the WIT function of that name.
pub trait Host {
    /// `settings.all`: what the operator has set, by name.
    fn settings(&self) -> Vec<(String, String)>;
    /// `storage.get`.
    fn get(&mut self, key: &str) -> Option<Vec<u8>>;
    /// `storage.put`, for ever.
    fn put(&mut self, key: &str, value: &[u8]);
    /// `storage.delete`.
    fn delete(&mut self, key: &str);
    /// `storage.scan` of all pages: the rows from `from` up to and without `to`, in order.
    fn scan(&mut self, from: &str, to: &str) -> Vec<(String, Vec<u8>)>;
}
