//! What of a request for a model the gateway has to know.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
pub use stagecraft_api::model::Operation;

/// A request for a model, taken apart as far as need be. Fields keep their order and their bytes, on which the provider's prompt cache
/// depends.
#[derive(Clone, Debug)]
pub struct Prompt {
    pub fields: Fields,
    pub model: String,
    pub is_streamed: bool,
    /// How many answers it asks for.
    answers: u64,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
}

/// What of a request is read.
#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    model: String,
    stream: Option<bool>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    n: Option<u64>,
    best_of: Option<u64>,
}

impl Prompt {
    /// The error says what is wrong with the body. Nothing of it is copied.
    pub fn parse(body: &Bytes) -> Result<Self, String> {
        let wrong = |error: serde_json::Error| format!("the body is not a request for a model: {error}");
        let Peek {
            model,
            stream,
            max_tokens,
            max_completion_tokens,
            max_output_tokens,
            n,
            best_of,
        } = serde_json::from_slice(body).map_err(wrong)?;
        Ok(Self {
            fields: Fields::parse(body).map_err(wrong)?,
            model,
            is_streamed: stream.unwrap_or(false),
            answers: n.max(best_of).unwrap_or(1).max(1),
            max_tokens,
            max_completion_tokens,
            max_output_tokens,
        })
    }

    /// Most tokens that it may write, in all its answers. Where it sets no maximum it gets this one: what is reserved has to hold.
    pub fn bound(&mut self, operation: Operation, default: u64) -> u64 {
        let (name, told, answers) = match operation {
            Operation::Messages => ("max_tokens", self.max_tokens, 1),
            Operation::ChatCompletions => (
                "max_completion_tokens",
                self.max_completion_tokens.max(self.max_tokens),
                self.answers,
            ),
            Operation::Responses => ("max_output_tokens", self.max_output_tokens, 1),
            Operation::CountTokens | Operation::Models => return 0,
        };
        let most = told.unwrap_or_else(|| {
            self.fields.set(name, &json!(default));
            default
        });
        most.saturating_mul(answers)
    }

    /// Asks for another model.
    pub fn set_model(&mut self, model: &str) {
        model.clone_into(&mut self.model);
        self.fields.set("model", &json!(model));
    }

    /// Has the provider keep nothing, where the agent left that to it.
    pub fn keep_nothing(&mut self) {
        if self.fields.get("store").is_none_or(|told| told == "null") {
            self.fields.set("store", &Value::Bool(false));
        }
    }

    /// Asks a stream of Chat Completions to report its usage, which it does on request alone. True when the agent had not asked for
    /// that: then the report is not its own.
    pub fn ask_for_usage(&mut self) -> bool {
        #[derive(Default, Deserialize)]
        struct Options {
            include_usage: Option<bool>,
        }
        let options = self.fields.get("stream_options");
        let own: Options = options
            .and_then(|options| serde_json::from_str(options).ok())
            .unwrap_or_default();
        if own.include_usage == Some(true) {
            return false;
        }
        let mut options: Value = options
            .and_then(|options| serde_json::from_str(options).ok())
            .unwrap_or_default();
        if let Some(options) = options.as_object_mut() {
            options.insert("include_usage".to_owned(), Value::Bool(true));
        } else {
            options = json!({"include_usage": true});
        }
        self.fields.set("stream_options", &options);
        true
    }

    /// The request as it is sent.
    pub fn to_bytes(&self) -> Bytes {
        self.fields.to_bytes()
    }
}

/// The fields of a JSON object as they came.
#[derive(Clone, Debug)]
pub struct Fields {
    body: Bytes,
    /// Names, and values as JSON: parts of the body.
    all: Vec<(String, Bytes)>,
    is_changed: bool,
}

impl Fields {
    fn parse(body: &Bytes) -> serde_json::Result<Self> {
        let Borrowed(fields) = serde_json::from_slice(body)?;
        let fields = fields.into_iter();
        Ok(Self {
            all: fields
                .map(|(name, value)| (name, body.slice_ref(value.get().as_bytes())))
                .collect(),
            body: body.clone(),
            is_changed: false,
        })
    }

    /// A value as JSON.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.all.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    }

    fn set(&mut self, name: &str, value: &Value) {
        let value = Bytes::from(value.to_string());
        self.is_changed = true;
        match self.all.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.all.push((name.to_owned(), value)),
        }
    }

    fn to_bytes(&self) -> Bytes {
        if !self.is_changed {
            return self.body.clone();
        }
        let size = |(name, value): &(String, Bytes)| name.len() + value.len() + 8;
        let mut bytes = Vec::with_capacity(self.all.iter().map(size).sum());
        for (name, value) in &self.all {
            bytes.push(if bytes.is_empty() { b'{' } else { b',' });
            bytes.extend_from_slice(json!(name).to_string().as_bytes());
            bytes.push(b':');
            bytes.extend_from_slice(value);
        }
        bytes.push(b'}');
        Bytes::from(bytes)
    }
}

/// The same within the body.
struct Borrowed<'body>(Vec<(String, &'body RawValue)>);

impl<'de> Deserialize<'de> for Borrowed<'de> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Borrowed<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Borrowed<'de>, M::Error> {
                let (mut fields, mut names) = (Vec::new(), HashSet::new());
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    // The provider might read the other one.
                    if !names.insert(name.clone()) {
                        return Err(M::Error::custom(format!("{name} is given twice")));
                    }
                    fields.push((name, value));
                }
                Ok(Borrowed(fields))
            }
        }
        source.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Operation, Prompt};

    #[test]
    fn a_prompt_keeps_its_order_and_its_bytes() {
        let body =
            br#"{"tools":[{"b":1.0,"a":1e2}],"model":"m","max_tokens":100,"stream":true,"unknown":"\u00e4"}"#;
        let mut prompt = Prompt::parse(&Bytes::from_static(body)).unwrap();
        assert_eq!((prompt.model.as_str(), prompt.is_streamed), ("m", true));
        assert_eq!(prompt.bound(Operation::Messages, 7), 100);
        assert_eq!(prompt.to_bytes(), &body[..]);
        prompt.set_model("n");
        let other = String::from_utf8(prompt.to_bytes().to_vec()).unwrap();
        assert_eq!(other, String::from_utf8_lossy(body).replace("\"m\"", "\"n\""));
    }

    #[test]
    fn a_prompt_that_is_none_says_so() {
        for body in [
            "",
            "[]",
            "{",
            "3",
            r#"{"model": 3}"#,
            r#"{"model": "m", "stream": "yes"}"#,
            r#"{"max_tokens": -1}"#,
        ] {
            let problem = Prompt::parse(&Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
            assert!(problem.starts_with("the body is not a request"), "{problem}");
        }
    }

    #[test]
    fn a_stream_is_asked_for_its_usage_once() {
        let asked = |body: &str| {
            let mut prompt = Prompt::parse(&Bytes::copy_from_slice(body.as_bytes())).unwrap();
            let added = prompt.ask_for_usage();
            (added, String::from_utf8(prompt.to_bytes().to_vec()).unwrap())
        };
        assert_eq!(
            asked(r#"{"stream":true}"#),
            (
                true,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#.to_owned()
            )
        );
        let own = r#"{"stream_options":{"include_usage":true}}"#;
        assert_eq!(asked(own), (false, own.to_owned()));
        for other in [
            r#"{"stream_options":null}"#,
            r#"{"stream_options":{"include_usage":false}}"#,
            r#"{"stream_options":7}"#,
        ] {
            assert_eq!(asked(other), (true, own.to_owned()));
        }
    }
}
