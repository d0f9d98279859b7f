//! What the server keeps, and what its commands do to it.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Script, Value};
use stagecraft_api::Moment;

pub(super) type Id = (u64, u64);
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Default)]
pub struct State {
    pub(super) streams: BTreeMap<Vec<u8>, Stream>,
    pub(super) hashes: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(super) sets: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    pub(super) strings: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) scripts: BTreeSet<String>,
}

#[derive(Default)]
pub(super) struct Stream {
    pub(super) entries: BTreeMap<Id, Fields>,
    last: Id,
    groups: BTreeMap<Vec<u8>, Group>,
}

#[derive(Default)]
struct Group {
    delivered: Id,
    /// Entries that were read and not acknowledged, with their consumer and when that was.
    pending: BTreeMap<Id, (Vec<u8>, Moment)>,
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn bulk(bytes: impl AsRef<[u8]>) -> Value {
    Value::BulkString(bytes.as_ref().to_vec())
}

pub(super) fn number(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

pub fn error_value(message: &str) -> Value {
    let wire = format!("-{message}\r\n");
    redis::parse_redis_value(wire.as_bytes()).unwrap_or(Value::Nil)
}

pub(super) fn id_text((millis, sequence): Id) -> Vec<u8> {
    format!("{millis}-{sequence}").into_bytes()
}

pub(super) fn parse_id(bytes: &[u8]) -> Id {
    let text = text(bytes);
    let (millis, sequence) = text.split_once('-').unwrap_or((&text, "0"));
    (millis.parse().unwrap_or(0), sequence.parse().unwrap_or(0))
}

fn entry((id, fields): (&Id, &Fields)) -> Value {
    let fields = fields.iter().flat_map(|(name, value)| [bulk(name), bulk(value)]);
    Value::Array(vec![bulk(id_text(*id)), Value::Array(fields.collect())])
}

fn pairs(fields: &[Vec<u8>]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    fields.chunks_exact(2).filter_map(|pair| match pair {
        [name, value] => Some((name.clone(), value.clone())),
        _ => None,
    })
}

fn matches(pattern: &[u8], key: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(prefix) => key.starts_with(prefix),
        None => key == pattern,
    }
}

impl State {
    /// Keys, fields and values that contain `needle`.
    pub fn find(&self, needle: &str) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        let mut add = |bytes: &[u8]| texts.push(String::from_utf8_lossy(bytes).into_owned());
        for (key, stream) in &self.streams {
            add(key);
            stream
                .entries
                .values()
                .flatten()
                .for_each(|(_, value)| add(value));
        }
        for (key, hash) in &self.hashes {
            add(key);
            for field in hash.keys() {
                add(field);
            }
        }
        for (key, set) in &self.sets {
            add(key);
            for member in set {
                add(member);
            }
        }
        texts.retain(|text| text.contains(needle));
        texts
    }

    /// Does what a command says, or answers why not.
    pub fn execute(&mut self, arguments: &[Vec<u8>], now: Moment) -> Result<Value, String> {
        let [name, rest @ ..] = arguments else {
            return Err("ERR empty command".to_owned());
        };
        let name = text(name).to_uppercase();
        let wrong = || {
            format!(
                "ERR wrong number of arguments for '{}' command",
                name.to_lowercase()
            )
        };
        self.check_kinds(&name, rest)?;
        match (name.as_str(), rest) {
            ("XADD", [key, _, fields @ ..]) => Ok(bulk(id_text(self.add(key, fields, now)))),
            ("XLEN", [key]) => Ok(number(
                self.streams.get(key).map_or(0, |stream| stream.entries.len()),
            )),
            ("XRANGE", [key, from, to, rest @ ..]) => Ok(self.range(key, from, to, rest)),
            ("XDEL", [key, ids @ ..]) => Ok(number(self.remove(key, ids))),
            ("XACK", [key, group, ids @ ..]) => Ok(number(self.acknowledge(key, group, ids))),
            ("XGROUP", [_, key, group, ..]) => self.make_group(key, group),
            ("XREADGROUP", rest) => self.read_group(rest, now),
            ("XAUTOCLAIM", [key, group, consumer, idle, start, rest @ ..]) => {
                let idle = text(idle).parse().unwrap_or(0);
                let count = rest.get(1).and_then(|count| text(count).parse().ok());
                let range = (parse_id(start), count.unwrap_or(100));
                self.claim(key, group, consumer, idle, range, now)
            }
            ("SET", [key, value]) => {
                self.delete(key);
                self.strings.insert(key.clone(), value.clone());
                Ok(Value::Okay)
            }
            ("HSET", [key, fields @ ..]) => {
                let hash = self.hashes.entry(key.clone()).or_default();
                let before = hash.len();
                hash.extend(pairs(fields));
                Ok(number(hash.len() - before))
            }
            ("SADD", [key, members @ ..]) => {
                let set = self.sets.entry(key.clone()).or_default();
                let before = set.len();
                set.extend(members.iter().cloned());
                Ok(number(set.len() - before))
            }
            ("HGETALL", [key]) => {
                let fields = self.hashes.get(key).into_iter().flatten();
                Ok(Value::Array(
                    fields
                        .flat_map(|(field, value)| [bulk(field), bulk(value)])
                        .collect(),
                ))
            }
            ("HKEYS", [key]) => {
                let fields = self.hashes.get(key).into_iter().flatten();
                Ok(Value::Array(fields.map(|(field, _)| bulk(field)).collect()))
            }
            ("HDEL", [key, fields @ ..]) => Ok(number(self.remove_fields(key, fields))),
            ("SMEMBERS", [key]) => {
                let members = self.sets.get(key).into_iter().flatten();
                Ok(Value::Array(members.map(bulk).collect()))
            }
            ("DEL", keys) => {
                let gone = keys.iter().filter(|key| self.delete(key)).count();
                Ok(number(gone))
            }
            // All at once, whatever the cursor: `MATCH pattern`, which may end with a star.
            ("SCAN", [_, _, pattern, ..]) => {
                let keys = [
                    self.streams.keys().collect::<Vec<_>>(),
                    self.hashes.keys().collect(),
                    self.sets.keys().collect(),
                    self.strings.keys().collect(),
                ];
                let found = keys.iter().flatten().filter(|key| matches(pattern, key));
                Ok(Value::Array(vec![
                    bulk("0"),
                    Value::Array(found.map(bulk).collect()),
                ]))
            }
            ("SCRIPT", [_, script]) => {
                let hash = Script::new(&text(script)).get_hash().to_owned();
                self.scripts.insert(hash.clone());
                Ok(bulk(hash))
            }
            ("EVALSHA", [hash, _, rest @ ..]) => self.evaluate(&text(hash), rest, now),
            ("XADD" | "XRANGE" | "XACK" | "XGROUP" | "XAUTOCLAIM", _) => Err(wrong()),
            (name, _) => Err(format!("ERR unknown command '{name}'")),
        }
    }

    pub(super) fn add(&mut self, key: &[u8], fields: &[Vec<u8>], now: Moment) -> Id {
        let stream = self.streams.entry(key.to_vec()).or_default();
        let millis = u64::try_from(now.timestamp().as_millisecond()).unwrap_or(0);
        let (last, sequence) = stream.last;
        stream.last = if millis > last {
            (millis, 0)
        } else {
            (last, sequence + 1)
        };
        stream.entries.insert(stream.last, pairs(fields).collect());
        stream.last
    }

    fn range(&self, key: &[u8], from: &[u8], to: &[u8], rest: &[Vec<u8>]) -> Value {
        let from = if from == b"-" { (0, 0) } else { parse_id(from) };
        let to = if to == b"+" {
            (u64::MAX, u64::MAX)
        } else {
            parse_id(to)
        };
        let count = rest
            .get(1)
            .and_then(|count| text(count).parse().ok())
            .unwrap_or(usize::MAX);
        let entries = self
            .streams
            .get(key)
            .into_iter()
            .flat_map(|stream| stream.entries.range(from..=to));
        Value::Array(entries.take(count).map(entry).collect())
    }

    pub(super) fn remove(&mut self, key: &[u8], ids: &[Vec<u8>]) -> usize {
        let Some(stream) = self.streams.get_mut(key) else {
            return 0;
        };
        let gone = ids
            .iter()
            .filter(|id| stream.entries.remove(&parse_id(id)).is_some());
        gone.count()
    }

    pub(super) fn remove_fields(&mut self, key: &[u8], fields: &[Vec<u8>]) -> usize {
        let Some(hash) = self.hashes.get_mut(key) else {
            return 0;
        };
        let gone = fields
            .iter()
            .filter(|field| hash.remove(*field).is_some())
            .count();
        if hash.is_empty() {
            self.hashes.remove(key);
        }
        gone
    }

    pub(super) fn acknowledge(&mut self, key: &[u8], group: &[u8], ids: &[Vec<u8>]) -> usize {
        let group = self
            .streams
            .get_mut(key)
            .and_then(|stream| stream.groups.get_mut(group));
        let Some(group) = group else { return 0 };
        let gone = ids
            .iter()
            .filter(|id| group.pending.remove(&parse_id(id)).is_some());
        gone.count()
    }

    /// From the beginning of the stream, which is made.
    pub(super) fn make_group(&mut self, key: &[u8], group: &[u8]) -> Result<Value, String> {
        let stream = self.streams.entry(key.to_vec()).or_default();
        if stream.groups.contains_key(group) {
            return Err("BUSYGROUP Consumer Group name already exists".to_owned());
        }
        stream.groups.insert(group.to_vec(), Group::default());
        Ok(Value::Okay)
    }

    fn group(&mut self, key: &[u8], group: &[u8]) -> Result<(&BTreeMap<Id, Fields>, &mut Group), String> {
        let stream = self.streams.get_mut(key).and_then(|stream| {
            let group = stream.groups.get_mut(group)?;
            Some((&stream.entries, group))
        });
        stream.ok_or_else(|| {
            let (key, group) = (text(key), text(group));
            format!("NOGROUP No such key '{key}' or consumer group '{group}' in XREADGROUP with GROUP option")
        })
    }

    /// `GROUP name consumer [BLOCK n] [COUNT n] STREAMS key >`.
    fn read_group(&mut self, rest: &[Vec<u8>], now: Moment) -> Result<Value, String> {
        let [_, group, consumer, options @ ..] = rest else {
            return Err("ERR syntax error".to_owned());
        };
        let [.., key, _] = options else {
            return Err("ERR syntax error".to_owned());
        };
        let count = options
            .iter()
            .position(|option| option.eq_ignore_ascii_case(b"COUNT"));
        let count = count
            .and_then(|at| text(options.get(at + 1)?).parse().ok())
            .unwrap_or(usize::MAX);
        let (entries, group) = self.group(key, group)?;
        let after = (group.delivered.0, group.delivered.1 + 1);
        let fresh: Vec<(&Id, &Fields)> = entries.range(after..).take(count).collect();
        let Some((last, _)) = fresh.last() else {
            return Ok(Value::Nil);
        };
        group.delivered = **last;
        group
            .pending
            .extend(fresh.iter().map(|(id, _)| (**id, (consumer.clone(), now))));
        let entries = Value::Array(fresh.into_iter().map(entry).collect());
        Ok(Value::Array(vec![Value::Array(vec![bulk(key), entries])]))
    }

    /// What has been pending for so many milliseconds, of so many entries from the start on, and where to go on.
    fn claim(
        &mut self,
        key: &[u8],
        group: &[u8],
        consumer: &[u8],
        idle: u64,
        (start, count): (Id, usize),
        now: Moment,
    ) -> Result<Value, String> {
        let (entries, group) = self.group(key, group)?;
        let ids: Vec<Id> = group.pending.range(start..).map(|(id, _)| *id).collect();
        let (mut claimed, mut gone, mut next) = (Vec::new(), Vec::new(), (0, 0));
        for id in ids {
            if claimed.len() + gone.len() == count {
                next = id;
                break;
            }
            let Some(found) = entries.get_key_value(&id) else {
                group.pending.remove(&id);
                gone.push(bulk(id_text(id)));
                continue;
            };
            if let Some(pending) = group.pending.get_mut(&id)
                && now.millis_since(pending.1) >= idle
            {
                *pending = (consumer.to_vec(), now);
                claimed.push(entry(found));
            }
        }
        Ok(Value::Array(vec![
            bulk(id_text(next)),
            Value::Array(claimed),
            Value::Array(gone),
        ]))
    }
}
