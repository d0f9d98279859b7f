//! The scripts of the protocol, done by hand.

use redis::{Script, Value};
use stagecraft_api::{Moment, protocol};

use super::kinds::Kind;
use super::state::{State, bulk, id_text, number, parse_id};

impl State {
    /// The two scripts of the protocol, as their Lua says.
    pub(super) fn evaluate(&mut self, hash: &str, rest: &[Vec<u8>], now: Moment) -> Result<Value, String> {
        if !self.scripts.contains(hash) {
            return Err("NOSCRIPT No matching script. Please use EVAL.".to_owned());
        }
        match rest {
            [stream, ids, agents, agent, attempt, envelope, group]
                if hash == Script::new(protocol::ADD_TASK).get_hash() =>
            {
                self.check(ids, Kind::Hash)?;
                if let Some(known) = self.hashes.get(ids).and_then(|hash| hash.get(attempt)).cloned()
                    && self
                        .streams
                        .get(stream)
                        .is_some_and(|stream| stream.entries.contains_key(&parse_id(&known)))
                {
                    return Ok(bulk(known));
                }
                self.check(stream, Kind::Stream)?;
                // That it is there already does not matter.
                let _ = self.make_group(stream, group);
                self.check(agents, Kind::Set)?;
                let fields = [
                    b"attempt".to_vec(),
                    attempt.clone(),
                    b"envelope".to_vec(),
                    envelope.clone(),
                ];
                let id = id_text(self.add(stream, &fields, now));
                self.hashes
                    .entry(ids.clone())
                    .or_default()
                    .insert(attempt.clone(), id.clone());
                self.sets.entry(agents.clone()).or_default().insert(agent.clone());
                Ok(bulk(id))
            }
            [stream, ids, attempt, group] if hash == Script::new(protocol::REMOVE_TASK).get_hash() => {
                self.check(ids, Kind::Hash)?;
                let Some(known) = self.hashes.get(ids).and_then(|hash| hash.get(attempt)).cloned() else {
                    return Ok(Value::Int(0));
                };
                self.acknowledge(stream, group, std::slice::from_ref(&known));
                self.remove_fields(ids, std::slice::from_ref(attempt));
                Ok(number(self.remove(stream, &[known])))
            }
            _ => Err("ERR this server has no Lua but two scripts".to_owned()),
        }
    }
}
