//! Answers of Redis: as bytes on the wire, as an entry of the result stream, as a name.

use std::collections::HashMap;

use redis::Value;
use redis::streams::StreamId;
use stagecraft_operator::gateway::operator_url;
use stagecraft_operator::queue::added_at;
use stagecraft_operator::result_stream::{claimed, read as read_entries};
use stagecraft_operator::results::Results;

pub fn read(bytes: &[u8]) {
    let results = Results::default();
    if let Ok(answer) = redis::parse_redis_value(bytes) {
        let (_, entries) = claimed(answer.clone());
        for entry in entries.iter().chain(&read_entries(answer)) {
            results.add(entry);
            let _ = added_at(&entry.id);
        }
    }
    if let Ok(fields) = serde_json::from_slice::<HashMap<String, String>>(bytes) {
        let fields = fields.into_iter();
        let entry = StreamId {
            id: "1-0".to_owned(),
            map: fields
                .map(|(name, value)| (name, Value::BulkString(value.into_bytes())))
                .collect(),
            ..StreamId::default()
        };
        if results.add(&entry).is_some() {
            assert!(results.workflows().len() == 1);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = added_at(&text);
    if let Some(url) = operator_url("https://gateway", &["workflows", &text]) {
        let place = url.path().strip_prefix("/v1/operator/workflows/");
        let is_one = place.is_some_and(|place| !place.is_empty() && !place.contains('/'));
        assert!(is_one && url.query().is_none(), "{text:?} leads to {url}");
    }
}
