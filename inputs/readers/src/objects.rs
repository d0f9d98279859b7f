//! Objects of the API server.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use stagecraft_api::status::RunRef;
use stagecraft_api::{AttemptKey, Digest};
use stagecraft_operator::evidence::{has_made_a_pod, latest_warning, of_job, of_pod, open_job, open_pod};
use stagecraft_operator::observe::decode_run;

pub fn read(bytes: &[u8]) {
    if let Ok(job) = serde_json::from_slice::<Job>(bytes) {
        let key = AttemptKey {
            workflow_uid: "uid".to_owned(),
            stage: "make".to_owned(),
            attempt: 1,
        };
        of_job(&job, &key, None);
        has_made_a_pod(&job);
        open_job(&job);
    }
    if let Ok(pod) = serde_json::from_slice::<Pod>(bytes) {
        of_pod(&pod);
        open_pod(&pod);
    }
    if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
        latest_warning(vec![event.clone(), event]);
    }
    if let Ok(map) = serde_json::from_slice::<ConfigMap>(bytes) {
        for entry in map.data.iter().flatten() {
            let reference = RunRef {
                name: "run".to_owned(),
                digest: Digest::of(entry.1.as_bytes()),
            };
            drop(decode_run(&map, &reference));
        }
    }
}
