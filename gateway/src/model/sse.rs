//! Server-sent events, cut out of a stream that arrives in pieces of any size.

/// Longest event. A longer one is passed on unread.
const EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Cuts a stream into events. All the bytes that go in come out, in their order.
#[derive(Debug, Default)]
pub struct Events {
    rest: Vec<u8>,
    /// How much of `rest` is known to hold no end of an event.
    searched: usize,
}

/// One event, or what is not one: comments, empty lines, an event that is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// As it came, with the empty line that ends it.
    pub raw: Vec<u8>,
    /// Its lines of data, joined by line feeds; empty where there are none.
    pub data: Vec<u8>,
}

impl Events {
    /// Takes the next piece, and gives the events that it completes.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.end() {
            let raw: Vec<u8> = self.rest.drain(..end).collect();
            self.searched = 0;
            events.push(Event {
                data: data(&raw),
                raw,
            });
        }
        if self.rest.len() > EVENT_BYTES {
            self.searched = 0;
            events.push(Event {
                raw: std::mem::take(&mut self.rest),
                data: Vec::new(),
            });
        }
        events
    }

    /// What is left when the stream has ended: an event that was never completed.
    pub fn finish(self) -> Event {
        Event {
            data: data(&self.rest),
            raw: self.rest,
        }
    }

    /// Where the first event ends: after an empty line.
    fn end(&mut self) -> Option<usize> {
        // An empty line is at most four bytes, of which some may have come before.
        let from = self.searched.saturating_sub(3);
        let found = (from..self.rest.len()).find_map(|at| {
            let rest = self.rest.get(at..)?;
            [&b"\r\n\r\n"[..], b"\n\n", b"\r\r"]
                .iter()
                .find(|end| rest.starts_with(end))
                .map(|end| at + end.len())
        });
        self.searched = self.rest.len();
        found
    }
}

/// The lines of data of an event.
fn data(raw: &[u8]) -> Vec<u8> {
    let lines = raw.split(|byte| matches!(byte, b'\n' | b'\r'));
    let values = lines.filter_map(|line| {
        let value = line.strip_prefix(b"data:")?;
        Some(value.strip_prefix(b" ").unwrap_or(value))
    });
    values.collect::<Vec<_>>().join(&b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{EVENT_BYTES, Event, Events};

    const STREAM: &[u8] = b": a comment\n\nevent: message\ndata: {\"a\":1}\n\ndata:one\r\ndata: two\r\n\r\ndata: [DONE]\n\nleft";

    fn told(pieces: &[&[u8]]) -> (Vec<Event>, Vec<u8>) {
        let mut events = Events::default();
        let told = pieces.iter().flat_map(|piece| events.feed(piece)).collect();
        (told, events.finish().raw)
    }

    fn texts(events: &[Event]) -> Vec<String> {
        events
            .iter()
            .map(|event| String::from_utf8_lossy(&event.data).into_owned())
            .collect()
    }

    #[test]
    fn events_come_out_as_they_went_in() {
        let (events, left) = told(&[STREAM]);
        assert_eq!(texts(&events), ["", "{\"a\":1}", "one\ntwo", "[DONE]"]);
        assert_eq!(left, b"left");
        let raw: Vec<u8> = events.iter().flat_map(|event| event.raw.clone()).collect();
        assert_eq!([raw, left].concat(), STREAM);
    }

    #[test]
    fn where_a_stream_is_cut_changes_nothing() {
        let whole = told(&[STREAM]);
        for at in 0..STREAM.len() {
            let (one, other) = STREAM.split_at(at);
            assert_eq!(told(&[one, other]), whole, "cut at byte {at}");
        }
        let bytes: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(told(&bytes), whole);
    }

    #[test]
    fn an_event_without_an_end_is_passed_on_in_parts() {
        let long = vec![b'x'; EVENT_BYTES + 1];
        let (events, left) = told(&[&long]);
        assert_eq!((events.len(), left.len()), (1, 0));
        assert_eq!(events[0].raw, long);
        assert!(events[0].data.is_empty());
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(pieces in proptest::collection::vec("[a\n\r:d ]{0,12}", 0..12)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            let (events, left) = told(&pieces);
            let raw: Vec<u8> = events.into_iter().flat_map(|event| event.raw).collect();
            prop_assert_eq!([raw, left].concat(), pieces.concat());
        }
    }
}
