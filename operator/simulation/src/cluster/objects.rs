//! What is written of a Pod and its Job.

use serde_json::{Value, json};
use stagecraft_api::Moment;

use super::life::Life;
use super::remove;
use crate::api_server::Key;

impl Life {
    pub(super) fn vanish(&self) {
        remove(&self.world, &self.pod, &self.pod_uid);
    }

    pub(super) fn set_pod(&self, phase: &str, mut status: Value) {
        status["phase"] = json!(phase);
        if self.found().is_some() {
            let set = |pod: &mut Value| pod["status"] = status;
            let _ = self.world.server.update(&self.pod, true, set);
        }
    }

    pub(super) fn close_job(&self, good: bool) {
        let conditions = if good {
            json!([{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}])
        } else {
            let reason = "BackoffLimitExceeded";
            json!([
                {"type": "FailureTarget", "status": "True", "reason": reason, "message": "Job has reached the specified backoff limit"},
                {"type": "Failed", "status": "True", "reason": reason, "message": "Job has reached the specified backoff limit"},
            ])
        };
        self.set_job(
            &json!({"conditions": conditions, "failed": u8::from(!good), "succeeded": u8::from(good)}),
        );
    }

    pub(super) fn set_job(&self, status: &Value) {
        let server = &self.world.server;
        let found = server.get("jobs", self.job.namespace(), self.job.name());
        if found.is_some_and(|found| found.uid() == self.job.uid())
            && let Some(key) = Key::of("jobs", self.job.namespace(), self.job.name())
        {
            let _ = server.update(&key, true, |job| job["status"] = status.clone());
        }
    }
}

pub(super) fn container(state: &Value) -> Value {
    json!({"name": "agent", "image": "runner:1", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

pub(super) fn seconds(moment: Moment) -> String {
    moment.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
