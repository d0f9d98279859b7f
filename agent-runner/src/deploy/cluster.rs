//! The agent's way to the API server: what it reads, writes and removes there.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stagecraft_api::error::chain;
use stagecraft_api::{Category, StructuredError};

use super::fence::{self, Denial, Permit};
use super::manifest::{MANAGER, Place};
use super::release::{Release, Writer};

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("the Pod has no service account that deploys")]
    NoAccount(#[from] kube::config::InClusterError),
    #[error("the API server's client cannot be made")]
    NoClient(#[source] kube::Error),
    #[error("the API server refused or failed {what}")]
    Api { what: String, source: Box<kube::Error> },
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error("{what} was changed by others again and again")]
    Contended { what: String },
    #[error("what is to be written cannot be put together")]
    Encode(#[from] serde_json::Error),
}

impl ClusterError {
    pub fn structured(&self) -> StructuredError {
        let of = |code, category| StructuredError::new(code, category, chain(self));
        match self {
            Self::Denied(denial) => denial.structured(),
            Self::NoAccount(_) => of("DeploymentForbidden", Category::Configuration)
                .suggest("use the Agent deployment of the release: only Agents in its namespace get permissions")
                .fatal(),
            Self::NoClient(_) => of("ClusterUnavailable", Category::Configuration),
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(answer) if answer.is_forbidden() => {
                    of("DeploymentForbidden", Category::Configuration).suggest(
                        "see what the message says: a quota or a policy of the namespace, or the chart's ClusterRole for stages \
                         that deploy, which the release has to install",
                    )
                }
                kube::Error::Api(answer) if answer.is_invalid() || answer.code == 400 => {
                    of("DeploymentInvalid", Category::Validation)
                        .suggest("correct the payload of the stage, or project.name, as the message says")
                        .fatal()
                }
                _ => of("ClusterUnavailable", Category::Dependency),
            },
            Self::Contended { .. } | Self::Encode(_) => of("ClusterUnavailable", Category::Dependency),
        }
    }
}

/// How often a write is tried that others come in between of: the controller writes the status all the time.
const WRITES: usize = 50;
const BETWEEN_WRITES: Duration = Duration::from_millis(100);

/// One namespace's objects of one project.
pub struct Cluster {
    pub client: Client,
    pub place: Place,
    pub deployments: Api<Deployment>,
    services: Api<Service>,
}

impl Cluster {
    /// With the service account that the Pod was given.
    pub fn from_pod(place: Place) -> Result<Self, ClusterError> {
        let mut config = kube::Config::incluster()?;
        config.connect_timeout = Some(Duration::from_secs(5));
        let client = Client::try_from(config).map_err(ClusterError::NoClient)?;
        Ok(Self::over(client, place))
    }

    pub fn over(client: Client, place: Place) -> Self {
        Self {
            deployments: Api::namespaced(client.clone(), &place.namespace),
            services: Api::namespaced(client.clone(), &place.namespace),
            client,
            place,
        }
    }

    pub async fn deployment(&self) -> Result<Option<Deployment>, ClusterError> {
        let what = format!("to read Deployment {}", self.place.project);
        persist(&what, || self.deployments.get_opt(&self.place.project)).await
    }

    pub async fn service(&self) -> Result<Option<Service>, ClusterError> {
        let what = format!("to read Service {}", self.place.project);
        persist(&what, || self.services.get_opt(&self.place.project)).await
    }

    /// Whether this attempt may write both objects. Changes nothing.
    pub async fn survey(&self, writer: &Writer) -> Result<Option<Deployment>, ClusterError> {
        let (deployment, service) = (self.deployment().await?, self.service().await?);
        self.permit_service(service.as_ref().map(|service| &service.metadata))?;
        self.permit_deployment(deployment.as_ref().map(|deployment| &deployment.metadata), writer)?;
        Ok(deployment)
    }

    /// Makes the Service, or puts it right.
    pub async fn write_service(&self, writer: &Writer) -> Result<Service, ClusterError> {
        let content = |permit: &Permit, _: Option<&ObjectMeta>| {
            self.place.service((*permit == Permit::Create).then_some(writer))
        };
        self.write(
            &self.services,
            "Service",
            |live| Ok(self.permit_service(live)?),
            content,
        )
        .await
    }

    /// Makes the Deployment run `release`, or changes it to. What was well last is kept until `good` takes its place.
    pub async fn write_deployment(
        &self,
        writer: &Writer,
        release: &Release,
        good: Option<&Release>,
    ) -> Result<Deployment, ClusterError> {
        self.write(
            &self.deployments,
            "Deployment",
            |live| Ok(self.permit_deployment(live, writer)?),
            |_, live| self.content(writer, release, good, live),
        )
        .await
    }

    /// The same for a Deployment that this attempt has written, and nobody since.
    pub async fn rewrite_deployment(
        &self,
        writer: &Writer,
        release: &Release,
        good: Option<&Release>,
    ) -> Result<Deployment, ClusterError> {
        let permit = |live: Option<&ObjectMeta>| {
            let permit = self.permit_deployment(live, writer)?;
            fence::still_ours(
                writer,
                &self.place.project,
                live.unwrap_or(&ObjectMeta::default()),
            )?;
            Ok(permit)
        };
        self.write(&self.deployments, "Deployment", permit, |_, live| {
            self.content(writer, release, good, live)
        })
        .await
    }

    /// Removes what this attempt has written and nobody since: the Deployment, and the Service if its stage made it.
    /// Answers whether the Service went too.
    pub async fn remove(&self, writer: &Writer) -> Result<bool, ClusterError> {
        let ours = |live: &ObjectMeta| fence::still_ours(writer, &self.place.project, live);
        self.delete(&self.deployments, "Deployment", ours).await?;
        let service = self.service().await?;
        if !service.is_some_and(|service| fence::made_by(writer, &service.metadata)) {
            return Ok(false);
        }
        self.delete(&self.services, "Service", |_| Ok(())).await?;
        Ok(true)
    }

    fn content(
        &self,
        writer: &Writer,
        release: &Release,
        good: Option<&Release>,
        live: Option<&ObjectMeta>,
    ) -> Value {
        let kept = live.and_then(fence::last_good);
        self.place.deployment(release, writer, good.or(kept.as_ref()))
    }

    fn permit_service(&self, live: Option<&ObjectMeta>) -> Result<Permit, Denial> {
        fence::permit("Service", &self.place.namespace, &self.place.project, live)
    }

    fn permit_deployment(&self, live: Option<&ObjectMeta>, writer: &Writer) -> Result<Permit, Denial> {
        let permit = fence::permit("Deployment", &self.place.namespace, &self.place.project, live)?;
        if let Some(live) = live {
            fence::may_follow(writer, &self.place.project, live)?;
        }
        Ok(permit)
    }

    /// Reads, decides, and writes what was decided to exactly the version that was read; begins anew when somebody else
    /// has written in between. A creation is no apply: an apply would also change what has just been created by another.
    async fn write<K>(
        &self,
        api: &Api<K>,
        kind: &str,
        permit: impl Fn(Option<&ObjectMeta>) -> Result<Permit, ClusterError>,
        content: impl Fn(&Permit, Option<&ObjectMeta>) -> Value,
    ) -> Result<K, ClusterError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
    {
        let name = &self.place.project;
        let what = format!("to write {kind} {name}");
        for _ in 0..WRITES {
            let live = persist(&what, || api.get_opt(name)).await?;
            let live = live.as_ref().map(Resource::meta);
            let permit = permit(live)?;
            let mut content = content(&permit, live);
            let written = match permit {
                Permit::Create => {
                    let object: K = serde_json::from_value(content)?;
                    let parameters = PostParams {
                        field_manager: Some(MANAGER.to_owned()),
                        ..PostParams::default()
                    };
                    api.create(&parameters, &object).await
                }
                Permit::Change { version } => {
                    if let Some(metadata) = content.pointer_mut("/metadata").and_then(Value::as_object_mut) {
                        metadata.insert("resourceVersion".to_owned(), json!(version));
                    }
                    let parameters = PatchParams::apply(MANAGER).force();
                    api.patch(name, &parameters, &Patch::Apply(&content)).await
                }
            };
            match written {
                Ok(object) => return Ok(object),
                Err(error) if is_outrun(&error) || may_pass(&error) => {
                    tokio::time::sleep(BETWEEN_WRITES).await;
                }
                Err(error) => return Err(failed(&what, error)),
            }
        }
        Err(ClusterError::Contended {
            what: format!("{kind} {name}"),
        })
    }

    async fn delete<K>(
        &self,
        api: &Api<K>,
        kind: &str,
        permit: impl Fn(&ObjectMeta) -> Result<(), Denial>,
    ) -> Result<(), ClusterError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let name = &self.place.project;
        let what = format!("to delete {kind} {name}");
        for _ in 0..WRITES {
            let Some(live) = persist(&what, || api.get_opt(name)).await? else {
                return Ok(());
            };
            permit(live.meta())?;
            let parameters = DeleteParams::background().preconditions(Preconditions {
                uid: live.meta().uid.clone(),
                resource_version: live.meta().resource_version.clone(),
            });
            match api.delete(name, &parameters).await {
                Ok(_) => return Ok(()),
                Err(error) if is_outrun(&error) || may_pass(&error) => {
                    tokio::time::sleep(BETWEEN_WRITES).await;
                }
                Err(error) => return Err(failed(&what, error)),
            }
        }
        Err(ClusterError::Contended {
            what: format!("{kind} {name}"),
        })
    }
}

/// Reads again while the API server is away for a moment, or has not heard of the service account's rights yet: they were
/// granted a second ago.
async fn persist<T, F: Future<Output = kube::Result<T>>>(
    what: &str,
    read: impl FnMut() -> F,
) -> Result<T, ClusterError> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(10);
    read.retry(backoff)
        .when(|error| may_pass(error) || is_forbidden(error))
        .await
        .map_err(|error| failed(what, error))
}

fn failed(what: &str, error: kube::Error) -> ClusterError {
    ClusterError::Api {
        what: what.to_owned(),
        source: Box::new(error),
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if answer.is_forbidden())
}

/// Somebody else has written or removed it since it was read.
fn is_outrun(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer)
        if answer.is_conflict() || answer.is_already_exists() || answer.is_not_found())
}

/// The API server may answer in a moment.
fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(answer) => answer.code == 429 || answer.code >= 500,
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}
