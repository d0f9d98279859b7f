use std::sync::LazyLock;

use serde_json::Value;
use stagecraft_api::{Agent, Approval, ModelProvider, Workflow, WorkflowTemplate};

/// A kind of object that the server keeps.
#[derive(Debug)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    /// Its status is written by a subresource of its own.
    pub has_status: bool,
    /// Its deletion gives it time to end.
    pub is_graceful: bool,
    /// The structural schema of a CRD.
    pub schema: Option<Value>,
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Resource {}

impl PartialOrd for Resource {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Resource {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.plural, self.group).cmp(&(other.plural, other.group))
    }
}

impl Resource {
    /// Kinds with a spec do.
    pub fn counts_generations(&self) -> bool {
        self.has_status || self.schema.is_some()
    }

    /// `workflows.stagecraft.dev`, as messages name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    vec![
        built_in("", "v1", "ConfigMap", "configmaps"),
        built_in("", "v1", "Event", "events"),
        built_in("", "v1", "ServiceAccount", "serviceaccounts"),
        Resource {
            has_status: true,
            is_graceful: true,
            ..built_in("", "v1", "Pod", "pods")
        },
        Resource {
            has_status: true,
            ..built_in("batch", "v1", "Job", "jobs")
        },
        built_in("events.k8s.io", "v1", "Event", "events"),
        built_in("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
        custom::<Agent>(),
        custom::<Approval>(),
        custom::<ModelProvider>(),
        custom::<Workflow>(),
        custom::<WorkflowTemplate>(),
    ]
});

const fn built_in(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Resource {
    Resource {
        group,
        version,
        kind,
        plural,
        has_status: false,
        is_graceful: false,
        schema: None,
    }
}

/// Names live as long as the program.
fn custom<K: kube::CustomResourceExt>() -> Resource {
    let crd = K::crd();
    let version = crd.spec.versions.into_iter().next();
    let schema = version.as_ref().and_then(|version| {
        let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
        serde_json::to_value(schema).ok()
    });
    let has_status = version
        .as_ref()
        .and_then(|version| version.subresources.as_ref())
        .is_some_and(|subresources| subresources.status.is_some());
    Resource {
        group: crd.spec.group.leak(),
        version: version.map(|version| version.name).unwrap_or_default().leak(),
        kind: crd.spec.names.kind.leak(),
        plural: crd.spec.names.plural.leak(),
        has_status,
        is_graceful: false,
        schema,
    }
}

pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|known| (known.group, known.version, known.plural) == (group, version, plural))
}

/// The first of this name.
pub fn by_plural(plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|known| known.plural == plural)
}
