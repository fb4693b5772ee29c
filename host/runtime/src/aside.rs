//! Work that nobody waits for, on threads that give way to those that answer.

/// How far such a thread gives way (nice(2)). Beside one that does not it still has a third of the share
/// (the kernel's weights are 335 and 1,024): a component that is to go live must not wait for a quiet hour.
const NICENESS: i32 = 5;

/// Runs `work` on a thread of its own.
///
/// # Errors
///
/// When the operating system has no thread.
pub(crate) fn run(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        // On Linux a niceness is the thread's own. Where it cannot be had the work is done all the same.
        let _ = rustix::process::nice(NICENESS);
        work();
    })?;
    Ok(())
}

/// Drops `value` on such a thread.
pub(crate) fn drop_there<T: Send + 'static>(value: T) {
    let (keep, take) = std::sync::mpsc::channel();
    // Where there is no thread the channel drops it, here.
    let _ = keep.send(value);
    let _ = run("countersign-drop", move || drop(take));
}
