//! Looks through what is said to a model for things that are named and not said: addresses and files that the provider would fetch.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use stagecraft_api::error::truncate;

use super::confine::allows;

/// Longest beginning of a text that is kept, in bytes.
const KEPT_BYTES: usize = 120;

/// A place in a request that leads out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// As a path.
    pub field: String,
    pub value: String,
    /// By which a ModelProvider allows it.
    pub name: String,
}

impl Reach {
    /// As it is told of what it stands in.
    #[must_use]
    pub fn below(self, parent: &str) -> Self {
        let dot = if self.field.starts_with('[') { "" } else { "." };
        Self {
            field: truncate(&format!("{parent}{dot}{}", self.field), 2 * KEPT_BYTES),
            ..self
        }
    }
}

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Look<'look> {
    pub allowed: &'look [String],
    /// Whether an item may be a reference to one that the provider has kept.
    pub has_references: bool,
}

impl Look<'_> {
    pub fn into(self, value: &str) -> serde_json::Result<Option<Reach>> {
        let mut source = serde_json::Deserializer::from_str(value);
        Ok(self.deserialize(&mut source)?.reach)
    }

    fn reach(self, field: &str, value: &str, name: &str) -> Option<Reach> {
        (!allows(self.allowed, name)).then(|| Reach {
            field: field.to_owned(),
            value: value.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// What of a value is needed to judge what it stands in.
#[derive(Default)]
pub struct Seen {
    /// The beginning of a text.
    text: Option<String>,
    is_object: bool,
    /// `type` and `url` of an object.
    kind: Option<String>,
    url: Option<String>,
    reach: Option<Reach>,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = Seen;

    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Seen, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = Seen;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<Seen, E> {
        let end = text.floor_char_boundary(KEPT_BYTES);
        Ok(Seen {
            text: text.get(..end).map(str::to_owned),
            ..Seen::default()
        })
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Seen, S::Error> {
        let mut found = None;
        let mut index = 0;
        while let Some(seen) = items.next_element_seed(self)? {
            found = found.or_else(|| Some(seen.reach?.below(&format!("[{index}]"))));
            index += 1;
        }
        Ok(Seen {
            reach: found,
            ..Seen::default()
        })
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<Seen, M::Error> {
        let mut object = Seen {
            is_object: true,
            ..Seen::default()
        };
        let (mut of_input, mut has_id, mut has_role) = (None, false, false);
        while let Some(name) = fields.next_key::<String>()? {
            let seen = fields.next_value_seed(self)?;
            let own = match name.as_str() {
                "type" => {
                    set(&mut object.kind, seen.text.clone(), &name)?;
                    None
                }
                "url" => {
                    set(&mut object.url, seen.text.clone(), &name)?;
                    None
                }
                "id" => {
                    has_id = true;
                    None
                }
                "role" => {
                    has_role = true;
                    None
                }
                "source" if seen.is_object => self.source(seen.kind.as_deref()),
                "image_url" => self.image(seen.text.as_deref().or(seen.url.as_deref())),
                "file_url" => seen.text.as_deref().and_then(|url| self.reach(&name, url, "url")),
                "file_id" => seen.text.as_deref().and_then(|id| self.reach(&name, id, "file")),
                _ => None,
            };
            let found = own.or_else(|| Some(seen.reach?.below(&name)));
            if name == "input" {
                of_input = of_input.or(found);
            } else {
                object.reach = object.reach.or(found);
            }
        }
        // What a model hands to a tool of the agent's may be anything.
        if !object
            .kind
            .as_deref()
            .is_some_and(|kind| kind.ends_with("tool_use"))
        {
            object.reach = object.reach.or(of_input);
        }
        let is_reference = match object.kind.as_deref().filter(|kind| !kind.is_empty()) {
            Some(kind) => kind == "item_reference",
            None => has_id && !has_role,
        };
        if self.has_references && is_reference {
            let own = self.reach("type", "item_reference", "item_reference");
            object.reach = object.reach.or(own);
        }
        Ok(object)
    }
}

impl Look<'_> {
    /// Of an image or a document.
    fn source(self, kind: Option<&str>) -> Option<Reach> {
        match kind {
            Some("base64" | "text" | "content") => None,
            Some("file") => self.reach("source.type", "file", "file"),
            other => self.reach("source.type", other.unwrap_or_default(), "url"),
        }
    }

    fn image(self, address: Option<&str>) -> Option<Reach> {
        let address = address.filter(|address| !address.starts_with("data:"))?;
        self.reach("image_url", address, "url")
    }
}

/// Two values of one name would be read one way here, and another there.
fn set<E: Error>(known: &mut Option<String>, value: Option<String>, name: &str) -> Result<(), E> {
    match known.replace(value.unwrap_or_default()) {
        Some(_) => Err(E::custom(format!("{name} is given twice"))),
        None => Ok(()),
    }
}
