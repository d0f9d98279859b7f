//! Answers of the API server, no deeper than they can be read. A reader of JSON gives up at 128 levels, and with one object of a
//! list it gives up the list: a single Workflow of somebody would hide all others. Whatever is nested deeper than [`DEPTH`] becomes
//! null here; a spec is refused for it long before, at `limit::DEPTH`.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;

/// Levels of an answer that are kept, lists and the objects in them included.
const DEPTH: usize = 100;

/// The answer without what is too deep in it.
pub fn shallow<B>(
    response: http::Response<B>,
) -> http::Response<impl Body<Data = Bytes, Error = B::Error> + Send + use<B>>
where
    B: Body<Data = Bytes> + Send,
{
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_json = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let mut filter = is_json.then(Filter::default);
    response.map(|body| {
        body.map_frame(move |frame: Frame<Bytes>| {
            frame.map_data(|data| match &mut filter {
                Some(filter) => filter.pass(data),
                None => data,
            })
        })
    })
}

/// Where in the text it is. What is no JSON passes in some form, and is refused by its reader.
#[derive(Default)]
struct Filter {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Filter {
    /// The piece without what is too deep. Most have nothing of it, and pass as they are.
    fn pass(&mut self, piece: Bytes) -> Bytes {
        let mut kept: Option<Vec<u8>> = None;
        for (index, byte) in piece.iter().enumerate() {
            let skips = self.depth > DEPTH;
            let opens_below = self.step(*byte) && self.depth == DEPTH + 1;
            if (skips || self.depth > DEPTH) && kept.is_none() {
                kept = Some(piece.get(..index).unwrap_or_default().to_vec());
            }
            if let Some(kept) = &mut kept {
                if opens_below {
                    kept.extend_from_slice(b"null");
                } else if !skips {
                    kept.push(*byte);
                }
            }
        }
        kept.map_or(piece, Bytes::from)
    }

    /// Goes one byte on. Answers whether that opens a list or an object.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_text = true,
            b'[' | b'{' => {
                self.depth = self.depth.saturating_add(1);
                return true;
            }
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectList;
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::Guarded;

    /// Passed on in pieces of so many bytes.
    fn passed(text: &str, size: usize) -> String {
        let mut filter = Filter::default();
        let pieces = text
            .as_bytes()
            .chunks(size)
            .map(|piece| filter.pass(Bytes::copy_from_slice(piece)));
        String::from_utf8(pieces.flatten().collect()).unwrap()
    }

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn a_list_with_one_workflow_that_is_too_deep_is_read_whole() {
        let workflow = |name: &str, deep: &str| {
            format!(
                r#"{{"metadata": {{"name": "{name}", "namespace": "here"}}, "spec": {{"type": "app", "parameters": {{"deep": {deep}}}}}}}"#
            )
        };
        let list = format!(
            r#"{{"apiVersion": "stagecraft.dev/v1alpha1", "kind": "WorkflowList", "metadata": {{}}, "items": [{}, {}]}}"#,
            workflow("deep", &nested(5_000)),
            workflow("plain", "1")
        );
        serde_json::from_str::<ObjectList<Guarded>>(&list).unwrap_err();
        for size in [1, 7, 4096] {
            let read: ObjectList<Guarded> = serde_json::from_str(&passed(&list, size)).unwrap();
            let [deep, plain] = read.items.as_slice() else {
                panic!("two Workflows")
            };
            let spec = &deep.0.as_ref().unwrap().spec;
            let depth = stagecraft_api::limit::depth(&json!(spec));
            assert!(
                depth > stagecraft_api::limit::DEPTH,
                "{depth} is refused as too deep"
            );
            assert_eq!(plain.0.as_ref().unwrap().spec.parameters["deep"], 1);
        }
    }

    #[test]
    fn what_is_not_too_deep_passes_as_it_is() {
        let text = r#"{"a": ["[[[{{", "\"]}", "\\", 1, null, {"b": []}], "ä": "\\\"{"}"#.repeat(3);
        for size in 1..40 {
            assert_eq!(passed(&text, size), text);
        }
        assert_eq!(passed(&nested(DEPTH), 3), nested(DEPTH));
        let cut: Value = serde_json::from_str(&passed(&nested(DEPTH + 1), 3)).unwrap();
        assert_eq!(stagecraft_api::limit::depth(&cut), DEPTH);
    }

    #[test]
    fn brackets_without_a_beginning_do_no_harm() {
        for text in ["]]]]}}}}", "\"[[[", "[[\\\"", "\\\\\\\""] {
            assert_eq!(passed(text, 1), text);
        }
    }
}
