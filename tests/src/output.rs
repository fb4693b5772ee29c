//! What a process prints, kept whole and waited on.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::watch;

use crate::PATIENCE;

/// One output stream of a process, from its start on.
#[derive(Clone, Debug)]
pub struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// True once the stream has ended.
    ended: watch::Receiver<bool>,
}

impl Output {
    /// Reads `stream` to its end on a thread of its own, so that a full pipe never stops the process.
    pub(crate) fn read(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (ended, receiver) = watch::channel(false);
        let collected = Arc::clone(&bytes);
        thread::spawn(move || {
            let mut chunk = [0; 64 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                collected
                    .lock()
                    .unwrap()
                    .extend_from_slice(&chunk[..length]);
                ended.send_replace(false);
            }
            ended.send_replace(true);
        });
        Self {
            bytes,
            ended: receiver,
        }
    }

    /// All bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// All text so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until `find` finds something in the text; `None` when the stream ended without it.
    ///
    /// # Panics
    /// When it takes longer than [`PATIENCE`].
    pub async fn find<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut ended = self.ended.clone();
        let search = async {
            loop {
                // The order matters: what was printed before the end is in the text after it.
                let over = *ended.borrow_and_update();
                if let Some(found) = find(&self.text()) {
                    return Some(found);
                }
                if over || ended.changed().await.is_err() {
                    return find(&self.text());
                }
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!(
                "no {what} within {PATIENCE:?}; the output so far:\n{}",
                self.text()
            ),
        }
    }

    /// Waits for the end of the stream.
    pub async fn end(&self) {
        let mut ended = self.ended.clone();
        let wait = tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended)).await;
        assert!(
            wait.is_ok(),
            "the output is still open after {PATIENCE:?}:\n{}",
            self.text()
        );
    }
}
