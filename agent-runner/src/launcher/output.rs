//! Passes the command's output on and keeps its end.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How much of the output is kept, in bytes.
const TAIL_BYTES: usize = 2048;

pub struct Output {
    tail: Arc<Mutex<VecDeque<u8>>>,
    closed: Receiver<()>,
}

impl Output {
    /// Copies `from` to `to` until it ends. A reader that fails to take it does not hold the command up.
    pub fn follow(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) -> Self {
        let (closing, closed) = channel();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&tail);
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let bytes = buffer.get(..count).unwrap_or_default();
                let _ = to.write_all(bytes).and_then(|()| to.flush());
                keep(&kept, bytes);
            }
            let _ = closing.send(());
        });
        Self { tail, closed }
    }

    /// The last bytes of the output as text. Waits for its end, but no longer than `limit`: a process that escaped may
    /// hold it open.
    pub fn tail(&mut self, limit: Duration) -> String {
        let _ = self.closed.recv_timeout(limit);
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = tail.make_contiguous();
        // A character that was cut at the front would show as a replacement character.
        let whole = bytes
            .iter()
            .take(3)
            .take_while(|byte| (0x80..0xC0).contains(*byte))
            .count();
        String::from_utf8_lossy(bytes.get(whole..).unwrap_or_default()).into_owned()
    }
}

fn keep(tail: &Mutex<VecDeque<u8>>, bytes: &[u8]) {
    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    let last = bytes
        .get(bytes.len().saturating_sub(TAIL_BYTES)..)
        .unwrap_or_default();
    tail.extend(last);
    let excess = tail.len().saturating_sub(TAIL_BYTES);
    tail.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let text = "é".repeat(3000) + "end";
        let mut output = Output::follow(std::io::Cursor::new(text), std::io::sink());
        let tail = output.tail(Duration::from_secs(5));
        assert!(tail.ends_with("éend"), "{tail}");
        assert!(tail.starts_with('é'), "{tail}");
        assert!(tail.len() <= TAIL_BYTES && tail.len() > TAIL_BYTES - 4);
    }
}
