//! What a Workflow needs to be allowed in its namespace, for as long as it exists: a ServiceAccount for Agents of the release that ask to
//! deploy, bound to a ClusterRole of the release; and for a Workflow that names a model provider, that the gateway may read its key. All
//! of it belongs to the Workflow, and goes with it.

use std::fmt::Debug;

use futures::future::try_join;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stagecraft_api::agent::Permission;
use stagecraft_api::run::RunAgent;
use stagecraft_api::{Workflow, label, name};

/// Why a stage did not get its permissions.
#[derive(Debug, thiserror::Error)]
pub enum PermissionError {
    #[error("the Workflow has no namespace or no UID")]
    NoOwner,
    #[error("{kind} {name} of the stage's permissions could not be put together")]
    Encode {
        kind: &'static str,
        name: String,
        source: serde_json::Error,
    },
    #[error("{kind} {name} of the stage's permissions could not be created")]
    Create {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error(
        "{kind} {name} exists already and does not belong to this Workflow: delete it, so that the stage can get its permissions"
    )]
    Foreign { kind: &'static str, name: String },
}

impl PermissionError {
    /// What a person has to know, when the attempt is lost for certain; none when trying again may help.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Create {
                kind,
                name,
                source: kube::Error::Api(answer),
            } if (400..500).contains(&answer.code) && !matches!(answer.code, 408 | 409 | 429) => Some(
                format!("{kind} {name} of the stage's permissions: {}", answer.message),
            ),
            Self::Foreign { .. } => Some(self.to_string()),
            _ => None,
        }
    }
}

/// Whether stages of this Agent get a service account.
pub fn deploys(agent: &RunAgent) -> bool {
    agent.permissions.contains(&Permission::Deploy)
}

/// The gateway, and the ClusterRole by which it reads keys of models.
#[derive(Clone, Debug)]
pub struct ModelKeys {
    pub cluster_role: String,
    pub service_account: String,
    /// Namespace of the release.
    pub namespace: String,
}

/// Sees to it that the service account of stages that deploy is there and may do what it has to. Doing it again changes nothing.
pub async fn ensure_deployer(
    client: &Client,
    workflow: &Workflow,
    cluster_role: &str,
) -> Result<(), PermissionError> {
    let Owned { namespace, uid } = owned(workflow)?;
    let account = service_account(workflow)?;
    let binding = deployer_binding(workflow, cluster_role)?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    try_join(
        // What others add to it, such as secrets to pull images with, is theirs.
        provide(&accounts, account, &uid, |_, _| true),
        bind(client, &namespace, binding, &uid),
    )
    .await
    .map(drop)
}

/// Sees to it that the gateway may read the keys of the Workflow's model provider. Doing it again changes nothing.
pub async fn ensure_model_keys(
    client: &Client,
    workflow: &Workflow,
    keys: &ModelKeys,
) -> Result<(), PermissionError> {
    let Owned { namespace, uid } = owned(workflow)?;
    let binding = model_keys_binding(workflow, keys)?;
    bind(client, &namespace, binding, &uid).await
}

/// The account, which only Pods with a token of their own use.
pub fn service_account(workflow: &Workflow) -> Result<ServiceAccount, PermissionError> {
    make(
        workflow,
        deployer(workflow),
        json!({"automountServiceAccountToken": false}),
    )
}

/// Its rights, in the Workflow's namespace alone.
pub fn deployer_binding(workflow: &Workflow, cluster_role: &str) -> Result<RoleBinding, PermissionError> {
    let Owned { namespace, .. } = owned(workflow)?;
    let name = deployer(workflow);
    make(workflow, name.clone(), binding(cluster_role, &name, &namespace))
}

/// What lets the gateway read keys, in the Workflow's namespace alone.
pub fn model_keys_binding(workflow: &Workflow, keys: &ModelKeys) -> Result<RoleBinding, PermissionError> {
    let ModelKeys {
        cluster_role,
        service_account,
        namespace,
    } = keys;
    let name = name::model_keys(&workflow.name_any(), &workflow.uid().unwrap_or_default());
    make(workflow, name, binding(cluster_role, service_account, namespace))
}

fn binding(cluster_role: &str, account: &str, namespace: &str) -> Value {
    json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}

struct Owned {
    namespace: String,
    uid: String,
}

fn owned(workflow: &Workflow) -> Result<Owned, PermissionError> {
    Ok(Owned {
        namespace: workflow.namespace().ok_or(PermissionError::NoOwner)?,
        uid: workflow.uid().ok_or(PermissionError::NoOwner)?,
    })
}

fn deployer(workflow: &Workflow) -> String {
    name::deployer(&workflow.name_any(), &workflow.uid().unwrap_or_default())
}

fn make<K: k8s_openapi::Resource + DeserializeOwned>(
    workflow: &Workflow,
    name: String,
    mut content: Value,
) -> Result<K, PermissionError> {
    let owner = workflow
        .controller_owner_ref(&())
        .ok_or(PermissionError::NoOwner)?;
    if let Some(object) = content.as_object_mut() {
        object.insert(
            "metadata".to_owned(),
            json!({
                "name": name,
                "namespace": workflow.namespace(),
                "labels": {
                    label::MANAGED_BY: label::MANAGED_BY_VALUE,
                    label::WORKFLOW: workflow.name_any(),
                    label::WORKFLOW_UID: workflow.uid(),
                },
                "ownerReferences": [owner],
            }),
        );
    }
    serde_json::from_value(content).map_err(|source| PermissionError::Encode {
        kind: K::KIND,
        name,
        source,
    })
}

async fn bind(
    client: &Client,
    namespace: &str,
    binding: RoleBinding,
    uid: &str,
) -> Result<(), PermissionError> {
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    provide(&bindings, binding, uid, |found, wanted| {
        found.role_ref == wanted.role_ref && found.subjects == wanted.subjects
    })
    .await
}

/// Creates the object unless the Workflow has it. One of another release, which binds another role, is made anew.
async fn provide<K>(
    api: &Api<K>,
    wanted: K,
    uid: &str,
    same: fn(&K, &K) -> bool,
) -> Result<(), PermissionError>
where
    K: k8s_openapi::Resource + Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    let name = wanted.name_any();
    let failed = |source| PermissionError::Create {
        kind: K::KIND,
        name: name.clone(),
        source,
    };
    match api.create(&PostParams::default(), &wanted).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(answer)) if answer.is_already_exists() => {}
        Err(error) => return Err(failed(error)),
    }
    let found = api.get(&name).await.map_err(failed)?;
    if found.owner_references().iter().all(|owner| owner.uid != uid) {
        return Err(PermissionError::Foreign { kind: K::KIND, name });
    }
    if same(&found, &wanted) {
        return Ok(());
    }
    api.delete(&name, &DeleteParams::default())
        .await
        .map_err(failed)?;
    api.create(&PostParams::default(), &wanted)
        .await
        .map_err(failed)
        .map(drop)
}
