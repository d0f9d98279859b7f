//! Metadata of a live Deployment that anybody has changed.

use std::cell::Cell;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use serde_json::{Value, json};
use stagecraft_agent_runner::deploy::course::revision;
use stagecraft_agent_runner::deploy::fence::{last_good, made_by, may_follow, permit, still_ours};
use stagecraft_agent_runner::deploy::manifest::{LAST_GOOD, Place};
use stagecraft_agent_runner::deploy::release::Writer;
use stagecraft_api::{label, limit};
use stagecraft_inputs::property::holds;
use stagecraft_inputs::values::{Harm, harm, spoil, text, value};

use crate::world::{NEW, OLD, release, writer};

const REVISION: &str = "deployment.kubernetes.io/revision";

/// Metadata of the Deployment as this writer leaves it.
fn clean(writer: &Writer) -> Value {
    let place = Place {
        namespace: "team".into(),
        project: "shop".into(),
    };
    let mut deployment = place.deployment(&release(writer, NEW), writer, Some(&release(writer, OLD)));
    let mut metadata = deployment["metadata"].take();
    metadata["resourceVersion"] = json!("7");
    metadata["annotations"][REVISION] = json!("4");
    metadata
}

fn read(metadata: &Value) -> Option<ObjectMeta> {
    serde_json::from_str(&metadata.to_string()).ok()
}

/// The annotations of the writer, each spoilt, removed or left; and harm to anything.
fn harms() -> impl Strategy<Value = (Vec<Option<Option<String>>>, Vec<Harm>)> {
    let change = prop::option::of(prop::option::of(prop_oneof![
        text(),
        prop::sample::select(&["3", "2", "1", "03", "3 ", "-3", "3.0", "4294967296", "NaN"][..])
            .prop_map(str::to_owned),
    ]));
    (
        prop::collection::vec(change, 3),
        prop::collection::vec(harm(), 0..3),
    )
}

/// What the metadata say of their writer: UID, stage and attempt, as far as they are there.
fn said(metadata: &ObjectMeta) -> [Option<String>; 3] {
    let annotations = metadata.annotations.clone().unwrap_or_default();
    [label::WORKFLOW_UID, label::STAGE, label::ATTEMPT].map(|name| annotations.get(name).cloned())
}

#[test]
fn spoilt_metadata_grant_nothing_that_clean_ones_refuse() {
    let (me, later) = (writer("flow", 2), writer("flow", 3));
    let granted = Cell::new((0, 0));
    holds(2_000, &harms(), |(changes, harms)| {
        let mut metadata = clean(&later);
        for (name, change) in [label::WORKFLOW_UID, label::STAGE, label::ATTEMPT]
            .iter()
            .zip(changes)
        {
            match change {
                None => {}
                Some(None) => drop(metadata["annotations"].as_object_mut().unwrap().remove(*name)),
                Some(Some(text)) => metadata["annotations"][*name] = json!(text),
            }
        }
        for harm in &harms {
            spoil(&mut metadata, harm);
        }
        let Some(live) = read(&metadata) else { return };
        let said = said(&live);
        let mine = [
            me.attempt.workflow_uid.clone(),
            me.attempt.stage.clone(),
            me.attempt.attempt.to_string(),
        ];
        let another = |field: usize| said[field].as_ref().is_some_and(|text| *text != mine[field]);
        let attempt = said[2].as_ref().and_then(|text| text.parse::<u32>().ok());
        let may = may_follow(&me, "shop", &live);
        if may.is_ok() {
            let nobody = said.iter().all(Option::is_none);
            let whole = said.iter().all(Option::is_some) && attempt.is_some();
            let not_later = another(0) || another(1) || attempt.is_some_and(|attempt| attempt <= 2);
            assert!(nobody || whole && not_later, "{said:?}");
            granted.set((granted.get().0 + 1, granted.get().1));
        } else {
            granted.set((granted.get().0, granted.get().1 + 1));
        }
        let ours = still_ours(&me, "shop", &live);
        if ours.is_ok() {
            assert!(!another(0) && !another(1) && attempt == Some(2), "{said:?}");
        }
        if made_by(&me, &live) {
            assert!(!another(0) && !another(1) && attempt.is_some(), "{said:?}");
        }
        let permitted = permit("Deployment", "team", "shop", Some(&live));
        let labels = live.labels.clone().unwrap_or_default();
        let is_labelled = labels.get(label::MANAGED_BY).map(String::as_str) == Some(label::MANAGED_BY_VALUE)
            && labels.get(label::PROJECT).map(String::as_str) == Some("shop");
        assert_eq!(
            permitted.is_ok(),
            is_labelled && live.deletion_timestamp.is_none()
        );
        for denial in [may.err(), ours.err(), permitted.err()].into_iter().flatten() {
            let told = denial.structured();
            assert!(told.message.len() <= limit::MESSAGE_BYTES, "{told:?}");
        }
    });
    let (granted, refused) = granted.get();
    assert!(granted > 50 && refused > 50, "{granted} {refused}");
}

#[test]
fn annotations_that_name_no_attempt_are_told_with_what_to_do() {
    let mut metadata = clean(&writer("flow", 3));
    metadata["annotations"][label::ATTEMPT] = json!("three");
    let denial = may_follow(&writer("flow", 2), "shop", &read(&metadata).unwrap()).unwrap_err();
    let told = denial.structured();
    assert_eq!((told.code.as_str(), told.retryable), ("UnknownWriter", false));
    assert!(told.message.contains(label::ATTEMPT), "{}", told.message);
    assert!(told.suggested_action.unwrap().contains("remove all of them"));
}

/// What a deployment says at its end is bounded: what it is told of the past must be so before.
#[test]
fn what_is_rolled_back_to_can_have_been_deployed() {
    let me = writer("flow", 2);
    let good = serde_json::to_value(release(&me, OLD)).unwrap();
    let values = (text(), value(), prop::collection::vec(harm(), 1..3));
    let read_back = Cell::new(0);
    holds(2_000, &values, |(text, document, harms)| {
        let mut spoilt = good.clone();
        for harm in &harms {
            spoil(&mut spoilt, harm);
        }
        for kept in [text.clone(), document.to_string(), spoilt.to_string()] {
            let mut metadata = clean(&me);
            metadata["annotations"][LAST_GOOD] = json!(kept);
            metadata["annotations"][REVISION] = json!(text);
            let live = read(&metadata).unwrap();
            if let Some(release) = last_good(&live) {
                read_back.set(read_back.get() + 1);
                assert!(release.image.len() <= 600 && !release.image.contains(char::is_whitespace));
                assert!((1..=20).contains(&release.replicas), "{release:?}");
                assert!(release.health_path.starts_with('/'), "{release:?}");
                assert!(release.shown().len() < limit::MESSAGE_BYTES);
            }
            let number = revision(&live);
            assert!(number.is_none_or(|number| number.len() <= 20 && number.parse::<u64>().is_ok()));
        }
    });
    assert!(read_back.get() > 10, "{}", read_back.get());
    let live = read(&clean(&me)).unwrap();
    assert_eq!(last_good(&live), Some(release(&me, OLD)));
    assert_eq!(revision(&live).as_deref(), Some("4"));
}
