//! JSON merge patches (RFC 7386).

use serde_json::{Map, Value};

/// The patch that turns `old` into `new`, or None when they are equal. Only objects are compared in depth; `new` must
/// hold no null, which a merge patch cannot express.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            None => {
                patch.insert(key.clone(), value.clone());
            }
            Some(before) => patch.extend(merge_patch(before, value).map(|change| (key.clone(), change))),
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

/// The same object without the fields, at any depth of objects, that are null: a merge patch would take them for
/// deletions. Nulls in lists stay; lists are patched as a whole.
pub fn without_nulls(object: Map<String, Value>) -> Map<String, Value> {
    object
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| match value {
            Value::Object(inner) => (key, Value::Object(without_nulls(inner))),
            other => (key, other),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// RFC 7386, section 2, as an independent check.
    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let object = target.as_object_mut().unwrap();
        for (key, change) in changes {
            if change.is_null() {
                object.remove(key);
            } else {
                apply(object.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..3_i64).prop_map(Value::from)
        ];
        let inner = leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[abc]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map("[abc]", inner, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn applying_the_patch_gives_the_new_document(old in document(), new in document()) {
            let mut target = old.clone();
            if let Some(patch) = merge_patch(&old, &new) {
                apply(&mut target, &patch);
            }
            prop_assert_eq!(target, new);
        }
    }

    #[test]
    fn what_is_null_counts_as_absent() {
        let Value::Object(outputs) = json!({"a": null, "b": {"c": null, "d": [null, {"e": null}]}, "f": 1})
        else {
            panic!("an object")
        };
        let kept = json!({"b": {"d": [null, {"e": null}]}, "f": 1});
        assert_eq!(Value::Object(without_nulls(outputs)), kept);
        let mut stored = json!({});
        apply(&mut stored, &merge_patch(&json!({}), &kept).unwrap());
        assert_eq!(stored, kept);
    }

    #[test]
    fn equal_documents_need_no_patch() {
        assert_eq!(merge_patch(&json!({"a": [1]}), &json!({"a": [1]})), None);
    }
}
