//! A key holds a value of one kind, and commands for another kind are refused.

use super::state::State;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stream,
    Hash,
    Set,
    Text,
}

impl State {
    /// Refuses a command whose key holds a value of another kind.
    pub fn check_kinds(&self, command: &str, rest: &[Vec<u8>]) -> Result<(), String> {
        let (kind, key) = match command {
            "XREADGROUP" => (Kind::Stream, rest.iter().rev().nth(1)),
            "XGROUP" => (Kind::Stream, rest.get(1)),
            "XADD" | "XLEN" | "XRANGE" | "XDEL" | "XACK" | "XAUTOCLAIM" => (Kind::Stream, rest.first()),
            "HGETALL" | "HKEYS" | "HDEL" | "HSET" => (Kind::Hash, rest.first()),
            "SMEMBERS" | "SADD" => (Kind::Set, rest.first()),
            _ => return Ok(()),
        };
        key.map_or(Ok(()), |key| self.check(key, kind))
    }

    pub fn check(&self, key: &[u8], kind: Kind) -> Result<(), String> {
        if self.kind(key).is_none_or(|found| found == kind) {
            return Ok(());
        }
        Err("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
    }

    /// Answers whether there was something.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let found = self.kind(key).is_some();
        self.streams.remove(key);
        self.hashes.remove(key);
        self.sets.remove(key);
        self.strings.remove(key);
        found
    }

    fn kind(&self, key: &[u8]) -> Option<Kind> {
        let kinds = [
            (self.streams.contains_key(key), Kind::Stream),
            (self.hashes.contains_key(key), Kind::Hash),
            (self.sets.contains_key(key), Kind::Set),
            (self.strings.contains_key(key), Kind::Text),
        ];
        kinds.into_iter().find(|(found, _)| *found).map(|(_, kind)| kind)
    }
}
