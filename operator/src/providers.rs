//! How ModelProviders do, by what the gateway says: it stands in their status, and holds back what would call them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedSender;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use stagecraft_api::ModelProvider;
use stagecraft_api::moment::Moment;
use stagecraft_api::protocol::ProviderReport;
use stagecraft_api::provider::ProviderKind;
use stagecraft_api::status::WorkflowStatus;
use stagecraft_core::merge::merge_patch;
use stagecraft_core::provider::{Trouble, status, trouble};

use crate::children;
use crate::controller::{Context, Guarded};

/// How often every provider is looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many are looked at at once.
const AT_ONCE: usize = 8;

/// Namespace and name.
type Place = (String, String);

/// The latest report on each.
#[derive(Default)]
pub struct Reports(Mutex<BTreeMap<Place, ProviderReport>>);

impl Reports {
    /// Why a provider cannot be called now. Of what nobody reported on, nothing is known: it is called.
    pub fn trouble(&self, namespace: &str, name: &str, now: Moment) -> Option<Trouble> {
        let place = (namespace.to_owned(), name.to_owned());
        self.all().get(&place).and_then(|report| trouble(report, now))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Place, ProviderReport>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// Why no call can be made now of what a Workflow names: neither of that provider, nor of one that it falls back on.
    pub fn model_trouble(&self, namespace: &str, name: &str, now: Moment) -> Option<Trouble> {
        let trouble = self.reports.trouble(namespace, name, now)?;
        let providers = self.providers.state();
        let known: Vec<&ModelProvider> = providers
            .iter()
            .filter_map(|object| object.0.as_ref().ok())
            .filter(|provider| provider.namespace().as_deref() == Some(namespace))
            .collect();
        let own = known.iter().find(|provider| provider.name_any() == name);
        let is_well = |other: &str| {
            let is_there = known.iter().any(|provider| provider.name_any() == other);
            is_there && self.reports.trouble(namespace, other, now).is_none()
        };
        let helps = trouble.may_fall_back()
            && own.is_some_and(|own| others(own).any(|other| other != name && is_well(other)));
        (!helps).then_some(trouble)
    }
}

/// The providers that one falls back on.
fn others(provider: &ModelProvider) -> impl Iterator<Item = &str> {
    let fallback = provider.spec.fallback.iter();
    fallback.filter_map(|other| other.provider.as_deref())
}

/// Looks after all providers, for ever.
pub async fn look_after(context: Arc<Context>, wake: UnboundedSender<ObjectRef<Guarded>>) {
    loop {
        let mut providers: Vec<ModelProvider> = context
            .providers
            .state()
            .iter()
            .filter_map(|object| object.0.clone().ok())
            .collect();
        providers.sort_by_key(place);
        let there: BTreeSet<Place> = providers.iter().map(place).collect();
        context.reports.all().retain(|place, _| there.contains(place));
        let looks = futures::stream::iter(providers).map(|provider| {
            let (context, wake) = (&context, &wake);
            async move { look(context, &provider, wake).await }
        });
        looks.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        tokio::time::sleep(INTERVAL).await;
    }
}

fn place(provider: &ModelProvider) -> Place {
    (provider.namespace().unwrap_or_default(), provider.name_any())
}

async fn look(context: &Context, provider: &ModelProvider, wake: &UnboundedSender<ObjectRef<Guarded>>) {
    let place = place(provider);
    let report = if provider.spec.provider == ProviderKind::Builtin {
        None
    } else {
        match context.gateway.provider(&place.0, &place.1).await {
            Ok(report) => Some(report),
            Err(error) => {
                tracing::debug!(
                    provider = place.1,
                    namespace = place.0,
                    error = &error as &dyn std::error::Error,
                    "nobody says how a provider does"
                );
                return;
            }
        }
    };
    let now = context.clock.now();
    if let Err(error) = store(context, provider, &place, report.as_ref(), now).await {
        tracing::debug!(
            provider = place.1,
            namespace = place.0,
            error = &*error,
            "the status of a provider was not stored"
        );
    }
    let Some(report) = report else { return };
    let after = trouble(&report, now);
    let before = context.reports.all().insert(place.clone(), report);
    if before.and_then(|before| trouble(&before, now)) == after {
        return;
    }
    // Those that fall back on it wait for it, too.
    let concerned: BTreeSet<String> = context
        .providers
        .state()
        .iter()
        .filter_map(|object| object.0.as_ref().ok())
        .filter(|known| known.namespace().unwrap_or_default() == place.0)
        .filter(|known| known.name_any() == place.1 || others(known).any(|other| other == place.1))
        .map(kube::ResourceExt::name_any)
        .collect();
    for workflow in context.workflows() {
        let model = workflow.spec.model.as_ref();
        let waits = model.is_some_and(|model| concerned.contains(&model.provider))
            && workflow.namespace().unwrap_or_default() == place.0
            && workflow.status.as_ref().is_none_or(is_alive);
        if waits && wake.unbounded_send(children::reference(&workflow)).is_err() {
            return;
        }
    }
}

fn is_alive(status: &WorkflowStatus) -> bool {
    !status.phase.is_terminal()
}

async fn store(
    context: &Context,
    provider: &ModelProvider,
    (namespace, name): &Place,
    report: Option<&ProviderReport>,
    now: Moment,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let before = serde_json::to_value(provider.status.clone().unwrap_or_default())?;
    let after = serde_json::to_value(status(provider, report, now))?;
    let Some(change) = merge_patch(&before, &after) else {
        return Ok(());
    };
    let change = if provider.status.is_some() { change } else { after };
    let patch = json!({
        "metadata": {"resourceVersion": provider.resource_version()},
        "status": change,
    });
    let api: Api<ModelProvider> = Api::namespaced(context.client.clone(), namespace);
    match api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        // What another wrote comes by the watch.
        Err(kube::Error::Api(refusal)) if refusal.is_conflict() || refusal.is_not_found() => Ok(()),
        outcome => Ok(outcome.map(|_| ())?),
    }
}
