//! Holds the agent's container back until its volumes are prepared.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::fs::inotify;

use super::layout::Layout;

/// Between two looks where no change can be watched.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until the agent may start. It is the `postStart` of the runner's container and may begin before the runner does.
pub fn wait(layout: &Layout) {
    // Watches are scarce: every Pod of a node that runs as the same user draws on the same small number.
    if watch(layout).is_err() {
        while !layout.ready().exists() {
            std::thread::sleep(PAUSE);
        }
    }
}

fn watch(layout: &Layout) -> io::Result<()> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    let changes = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, layout.state(), changes)?;
    // Looked at after the watch began, so that nothing is missed in between.
    if layout.ready().exists() {
        return Ok(());
    }
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut changes = inotify::Reader::new(&watch, &mut buffer);
    loop {
        let change = changes.next()?;
        let name = change.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        if name == Some(OsStr::new(Layout::READY)) {
            return Ok(());
        }
    }
}

/// Lets the agent's container start.
pub fn open(layout: &Layout) -> io::Result<()> {
    std::fs::File::create(layout.ready()).map(drop)
}
