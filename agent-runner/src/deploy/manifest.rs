//! What is put into the cluster: a Deployment and a Service of the project's name. They belong to no Workflow, so that the
//! application outlives the one that deployed it.

use serde_json::{Map, Value, json};
use stagecraft_api::{Digest, label};

use super::release::{Release, Writer};

/// Port of the application's container.
pub const APPLICATION_PORT: u16 = 8080;
/// Port of the Service.
pub const SERVICE_PORT: u16 = 80;
/// User and group of the application.
pub const APPLICATION_USER: u32 = 65_532;
/// Name of the application's container.
pub const CONTAINER: &str = "web";
/// Field manager of everything that is written.
pub const MANAGER: &str = "stagecraft";

/// Annotation: the commit that runs.
const COMMIT: &str = "stagecraft.dev/commit";
/// Annotation: digest of the image that runs.
const IMAGE_DIGEST: &str = "stagecraft.dev/image-digest";
/// Annotation: the release that was well last, as JSON.
pub const LAST_GOOD: &str = "stagecraft.dev/last-good";
/// Label of Pods: which of the project's releases they are of.
pub const RELEASE: &str = "stagecraft.dev/release";

const NAME: &str = "app.kubernetes.io/name";
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Where an application is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub namespace: String,
    /// Name of the project, and of all that is made.
    pub project: String,
}

impl Place {
    fn labels(&self) -> Value {
        json!({
            NAME: self.project,
            PART_OF: self.project,
            label::MANAGED_BY: label::MANAGED_BY_VALUE,
            label::PROJECT: self.project,
        })
    }

    /// Selects the application's Pods; it cannot be changed later.
    fn selector(&self) -> Value {
        json!({NAME: self.project, label::PROJECT: self.project})
    }

    /// Selects the Pods of one release.
    pub fn release_selector(&self, release: &Release) -> String {
        format!(
            "{}={},{RELEASE}={}",
            label::PROJECT,
            self.project,
            fingerprint(release)
        )
    }

    /// The Deployment that runs `release`, as `writer` leaves it.
    pub fn deployment(&self, release: &Release, writer: &Writer, last_good: Option<&Release>) -> Value {
        let mut annotations = written_by(writer);
        if let Some(commit) = &release.commit {
            annotations.insert(COMMIT.to_owned(), json!(commit));
        }
        if let Some((_, digest)) = release.image.split_once('@') {
            annotations.insert(IMAGE_DIGEST.to_owned(), json!(digest));
        }
        if let Some(good) = last_good {
            // As text, since annotations hold nothing else.
            annotations.insert(LAST_GOOD.to_owned(), json!(json!(good).to_string()));
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": self.project,
                "namespace": self.namespace,
                "labels": self.labels(),
                "annotations": annotations,
            },
            "spec": {
                "replicas": release.replicas,
                "revisionHistoryLimit": 5,
                "progressDeadlineSeconds": release.rollout_timeout_seconds,
                "selector": {"matchLabels": self.selector()},
                // The old Pods serve until the new ones are ready.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
                "template": self.template(release),
            },
        })
    }

    /// Nothing of the attempt is in it: a later attempt with the same image must not make new Pods.
    fn template(&self, release: &Release) -> Value {
        let mut labels = self.labels();
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(RELEASE.to_owned(), json!(fingerprint(release)));
        }
        json!({"metadata": {"labels": labels}, "spec": pod(release)})
    }

    /// The Service. Who made it stands in it from its creation on, and is not changed by later writers.
    pub fn service(&self, creator: Option<&Writer>) -> Value {
        let mut metadata = json!({
            "name": self.project,
            "namespace": self.namespace,
            "labels": self.labels(),
        });
        if let (Some(creator), Some(fields)) = (creator, metadata.as_object_mut()) {
            fields.insert("annotations".to_owned(), Value::Object(written_by(creator)));
        }
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "type": "ClusterIP",
                "selector": self.selector(),
                "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": APPLICATION_PORT, "protocol": "TCP"}],
            },
        })
    }
}

/// As annotations: as a label, the Workflow's UID would make Pods those of a stage.
fn written_by(writer: &Writer) -> Map<String, Value> {
    Map::from_iter([
        (label::WORKFLOW.to_owned(), json!(writer.workflow)),
        (label::WORKFLOW_UID.to_owned(), json!(writer.attempt.workflow_uid)),
        (label::STAGE.to_owned(), json!(writer.attempt.stage)),
        (
            label::ATTEMPT.to_owned(),
            json!(writer.attempt.attempt.to_string()),
        ),
    ])
}

/// Ten hexadecimal digits that differ when the Pods have to.
fn fingerprint(release: &Release) -> String {
    let mut digits = Digest::of(pod(release).to_string().as_bytes()).hex().to_owned();
    digits.truncate(10);
    digits
}

fn pod(release: &Release) -> Value {
    let check = |period: u32, failures: u32| {
        json!({
            "httpGet": {"path": release.health_path, "port": APPLICATION_PORT, "scheme": "HTTP"},
            "periodSeconds": period,
            "timeoutSeconds": 2,
            "failureThreshold": failures,
        })
    };
    json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": APPLICATION_USER,
            "runAsGroup": APPLICATION_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": CONTAINER,
            "image": release.image,
            "imagePullPolicy": "IfNotPresent",
            "ports": [{"name": "http", "containerPort": APPLICATION_PORT, "protocol": "TCP"}],
            "readinessProbe": check(1, 3),
            "livenessProbe": check(10, 6),
            "resources": {
                "requests": {"cpu": "10m", "memory": "16Mi"},
                "limits": {"memory": "128Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Service;

    use super::*;
    use crate::deploy::release::tests::{key, release};

    fn place() -> Place {
        Place {
            namespace: "team".into(),
            project: "shop".into(),
        }
    }

    fn writer(attempt: u32) -> Writer {
        Writer {
            workflow: "flow".into(),
            attempt: key(attempt),
        }
    }

    #[test]
    fn the_api_server_understands_every_field() {
        let deployment = place().deployment(&release("r/shop@sha256:7", 1), &writer(1), None);
        let typed: Deployment = serde_json::from_value(deployment.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(typed).unwrap(),
            deployment,
            "a field is misspelt"
        );
        let service = place().service(Some(&writer(1)));
        let typed: Service = serde_json::from_value(service.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(typed).unwrap(),
            service,
            "a field is misspelt"
        );
    }

    #[test]
    fn pods_keep_pod_security_restricted() {
        let deployment = place().deployment(&release("r/shop@sha256:7", 1), &writer(1), None);
        let pod = deployment.pointer("/spec/template/spec").unwrap();
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
    }

    #[test]
    fn a_later_attempt_changes_who_wrote_and_no_pod() {
        let image = "r/shop@sha256:7";
        let first = place().deployment(&release(image, 1), &writer(1), None);
        let second = place().deployment(&release(image, 2), &writer(2), None);
        assert_eq!(first["spec"], second["spec"]);
        assert_eq!(second["metadata"]["annotations"][label::ATTEMPT], "2");
        let other = Release {
            health_path: "/healthz".into(),
            ..release(image, 2)
        };
        assert_ne!(
            place().release_selector(&other),
            place().release_selector(&release(image, 2))
        );
    }

    #[test]
    fn no_label_makes_the_pods_those_of_a_stage() {
        let deployment = place().deployment(&release("r/shop@sha256:7", 1), &writer(1), None);
        for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
            let labels = deployment.pointer(labels).unwrap();
            assert_eq!(labels.get(label::WORKFLOW_UID), None);
            assert_eq!(labels[label::PROJECT], "shop");
        }
    }

    #[test]
    fn the_release_that_was_well_is_read_back_as_it_was_written() {
        let good = release("r/shop@sha256:6", 1);
        let deployment = place().deployment(&release("r/shop@sha256:7", 2), &writer(2), Some(&good));
        let text = deployment["metadata"]["annotations"][LAST_GOOD].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Release>(text).unwrap(), good);
    }
}
