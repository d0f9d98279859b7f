//! Takes a provider's key out of what it answers: some repeat it in errors.

use bytes::Bytes;

/// What stands in its place.
const REDACTED: &[u8] = b"[redacted]";
/// A shorter key is none that could be told from other text.
const SHORTEST: usize = 8;

/// Takes a key out of bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Empty: there is none.
    key: Bytes,
    /// The end of what came, which may be the beginning of the key.
    held: Vec<u8>,
}

impl Redactor {
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: if key.len() < SHORTEST {
                Bytes::new()
            } else {
                Bytes::copy_from_slice(key)
            },
            held: Vec::new(),
        }
    }

    /// Takes the next piece, and gives what is surely free of the key.
    pub fn feed(&mut self, piece: Bytes) -> Bytes {
        if self.key.is_empty() {
            return piece;
        }
        let all = if self.held.is_empty() {
            piece
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(&piece);
            Bytes::from(all)
        };
        let clean = replaced(all, &self.key);
        let kept = clean.len() - self.tail(&clean);
        self.held = clean.get(kept..).unwrap_or_default().to_vec();
        clean.slice(..kept)
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.held))
    }

    /// All of a text at once.
    pub fn whole(&self, text: Bytes) -> Bytes {
        if self.key.is_empty() {
            return text;
        }
        replaced(text, &self.key)
    }

    /// How long the end is that the key may begin with.
    fn tail(&self, text: &[u8]) -> usize {
        let longest = text.len().min(self.key.len() - 1);
        let begins = |length: &usize| {
            let end = text.get(text.len() - length..).unwrap_or_default();
            self.key.starts_with(end)
        };
        (1..=longest).rev().find(begins).unwrap_or(0)
    }
}

fn replaced(text: Bytes, key: &[u8]) -> Bytes {
    let find = |from: usize| {
        let rest = text.get(from..)?;
        let at = rest.windows(key.len()).position(|window| window == key)?;
        Some(from + at)
    };
    let Some(mut next) = find(0) else { return text };
    let (mut clean, mut done) = (Vec::with_capacity(text.len()), 0);
    loop {
        clean.extend_from_slice(text.get(done..next).unwrap_or_default());
        clean.extend_from_slice(REDACTED);
        done = next + key.len();
        match find(done) {
            Some(at) => next = at,
            None => break,
        }
    }
    clean.extend_from_slice(text.get(done..).unwrap_or_default());
    Bytes::from(clean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Bytes, Redactor};

    const KEY: &str = "sk-sk-skey";

    fn told(pieces: &[&str]) -> String {
        let mut redactor = Redactor::new(KEY.as_bytes());
        let mut told = Vec::new();
        for piece in pieces {
            told.extend_from_slice(&redactor.feed(Bytes::copy_from_slice(piece.as_bytes())));
        }
        told.extend_from_slice(&redactor.finish());
        String::from_utf8(told).unwrap()
    }

    #[test]
    fn what_cannot_become_the_key_is_not_held_back() {
        let mut redactor = Redactor::new(KEY.as_bytes());
        assert_eq!(redactor.feed(Bytes::from_static(b"hello sk-")), "hello ");
        assert_eq!(redactor.feed(Bytes::from_static(b"x")), "sk-x");
        let mut none = Redactor::new(b"short");
        assert_eq!(none.feed(Bytes::from_static(b"short")), "short");
    }

    proptest! {
        #[test]
        fn the_key_is_gone_wherever_it_is_cut(parts in proptest::collection::vec("(sk-|sk-sk-skey|skey|[a-z ]{0,3})", 0..8), cuts in proptest::collection::vec(0_usize..40, 0..6)) {
            let text = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&text[from..cut]);
                from = cut;
            }
            pieces.push(&text[from..]);
            prop_assert_eq!(told(&pieces), text.replace(KEY, "[redacted]"));
        }
    }
}
