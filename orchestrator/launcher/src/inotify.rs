//! Waits for changes in the file system, without asking again and again.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// Watches some files or folders.
#[derive(Debug)]
pub struct Watcher(AsyncFd<Handle>);

#[derive(Debug)]
struct Handle(Inotify);

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watcher {
    /// Watches nothing yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where this user watches too much already.
    #[expect(
        unsafe_code,
        reason = "tokio leaves it to the caller that a descriptor stays open"
    )]
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: `Handle` owns its descriptor, always gives the same one, and closes
        // it only when it is dropped.
        let registered = unsafe { AsyncFd::register(Handle(inotify)) };
        Ok(Self(registered?))
    }

    /// Watches `path`, too.
    ///
    /// # Errors
    /// Where it is not there, or this user watches too much already.
    pub fn add(&self, path: &Path, what: AddWatchFlags) -> io::Result<()> {
        self.0.get_ref().0.add_watch(path, what)?;
        Ok(())
    }

    /// What changed; waits until something does.
    ///
    /// # Errors
    /// Where the watch is broken.
    pub async fn changes(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|handle| Ok(handle.get_ref().0.read_events()?)) {
                Ok(events) => return events,
                Err(_would_block) => {}
            }
        }
    }

    /// What changed so far, without waiting.
    #[must_use]
    pub fn changes_now(&self) -> Vec<InotifyEvent> {
        let mut all = Vec::new();
        while let Ok(events) = self.0.get_ref().0.read_events() {
            all.extend(events);
        }
        all
    }
}
