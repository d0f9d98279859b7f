//! The demo: applies a sample, says what happens as it happens, and sums it up.

mod look;
mod progress;
mod report;
mod style;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use futures::StreamExt as _;
use jiff::Zoned;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use stagecraft_api::condition::ACCEPTED;
use stagecraft_api::{Moment, Workflow, WorkflowPhase, WorkflowStatus};

use crate::application::Application;
use crate::scenario::on_this_machine;

pub use style::Style;

/// Takes a sample Workflow through its stages and shows what happens.
#[derive(Parser, Debug)]
#[command(name = "stagecraft-demo", version)]
pub struct Arguments {
    /// File with one Workflow and whatever it needs.
    #[arg(long, default_value = "manifests/samples/echo.yaml")]
    file: PathBuf,

    /// Namespace to run it in; it is created when it is not there.
    #[arg(long, default_value = "stagecraft-demo")]
    namespace: String,

    /// Give up when nothing has happened for so many seconds.
    #[arg(long, default_value_t = 300)]
    timeout: u64,
}

/// A Workflow that is not accepted waits for its author, who is not here: no use in waiting as long as for work.
const NOT_ACCEPTED: Duration = Duration::from_secs(15);
/// An operator that runs takes notice within a second, one that takes over from another within 20.
const NO_OPERATOR: Duration = Duration::from_secs(45);
/// Field manager of what the demo applies.
const MANAGER: &str = "stagecraft-demo";

/// Runs the demo. True when the Workflow completed.
pub async fn run(arguments: Arguments, style: Style) -> anyhow::Result<bool> {
    let objects = crate::documents::read(&arguments.file)?;
    let Some(name) = workflow_name(&objects) else {
        bail!("{} has no Workflow in it", arguments.file.display());
    };
    let client = crate::client::connect().await?;
    let demo = Demo {
        style,
        file: &arguments.file,
        namespace: &arguments.namespace,
        name: &name,
        patience: Duration::from_secs(arguments.timeout),
        api: Api::namespaced(client.clone(), &arguments.namespace),
        client,
    };
    demo.introduce();
    demo.prepare().await?;
    let begun = Moment::now();
    let uid = demo.apply(&objects, begun).await?;
    let (end, last) = tokio::select! {
        followed = demo.follow(&uid, begun) => followed?,
        _ = tokio::signal::ctrl_c() => {
            demo.say_where_to_look("Interrupted. The Workflow goes on without the demo.");
            return Ok(false);
        }
    };
    match end {
        End::Completed => {
            println!("{}", report::outputs(&last, style));
            let total = progress::seconds(Moment::now().millis_since(begun));
            println!("{}", style.good(&format!("Completed in {total}.")));
            let application = demo.visit(&last).await?;
            let ran = report::Ran {
                file: demo.file,
                namespace: demo.namespace,
                name: demo.name,
                application,
                dev_cluster: on_this_machine(),
            };
            println!("{}", report::what_next(&ran, style));
            Ok(true)
        }
        End::Failed => {
            println!("{}", report::outputs(&last, style));
            println!(
                "{} {}",
                style.bad(if last.phase == WorkflowPhase::Cancelled {
                    "The Workflow was cancelled:"
                } else {
                    "The Workflow failed:"
                }),
                progress::one_line(&last.message)
            );
            demo.say_where_to_look("Where to look:");
            Ok(false)
        }
        End::Stalled(waited) => {
            println!(
                "\n{} nothing has happened for {waited} s.",
                style.bad("Giving up:")
            );
            println!(
                "{}",
                look::last_seen(&demo.client, (demo.namespace, demo.name), &last, style).await
            );
            demo.say_where_to_look("Where to look:");
            Ok(false)
        }
        End::Deleted => bail!("somebody deleted Workflow {name} while it ran"),
    }
}

/// How following a Workflow ends.
enum End {
    Completed,
    Failed,
    Stalled(u64),
    Deleted,
}

struct Demo<'a> {
    style: Style,
    file: &'a Path,
    namespace: &'a str,
    name: &'a str,
    patience: Duration,
    client: Client,
    api: Api<Workflow>,
}

impl Demo<'_> {
    fn introduce(&self) {
        let Self {
            style,
            file,
            namespace,
            name,
            ..
        } = self;
        println!(
            "{}",
            style.bold(&format!("Stagecraft: Workflow {name} from {}", file.display()))
        );
        println!(
            "{}",
            style.dim(&format!(
                "Watch it from another shell: kubectl -n {namespace} get workflows -w\n"
            ))
        );
    }

    /// Makes the namespace and removes what an earlier demo left.
    async fn prepare(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if let Some(found) = namespaces.get_opt(self.namespace).await?
            && found.metadata.deletion_timestamp.is_some()
        {
            println!(
                "waiting for namespace {} of an earlier demo to go",
                self.namespace
            );
            let uid = found.uid().unwrap_or_default();
            let gone = await_condition(namespaces.clone(), self.namespace, conditions::is_deleted(&uid));
            tokio::time::timeout(self.patience, gone)
                .await
                .with_context(|| {
                    format!("namespace {} is being deleted and does not go", self.namespace)
                })??;
        }
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        });
        namespaces
            .patch(
                self.namespace,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&namespace),
            )
            .await
            .with_context(|| format!("namespace {} was not created", self.namespace))?;
        let earlier = self
            .api
            .get_opt(self.name)
            .await
            .context("Workflows cannot be read: is the chart installed? `make install` does it")?;
        if let Some(earlier) = earlier {
            self.api.delete(self.name, &DeleteParams::background()).await?;
            let uid = earlier.uid().unwrap_or_default();
            let gone = await_condition(self.api.clone(), self.name, conditions::is_deleted(&uid));
            tokio::time::timeout(self.patience, gone)
                .await
                .with_context(|| format!("Workflow {} of an earlier demo does not go", self.name))??;
        }
        Ok(())
    }

    /// Applies everything and answers the UID of the Workflow.
    async fn apply(&self, objects: &[DynamicObject], begun: Moment) -> anyhow::Result<String> {
        let mut uid = None;
        for object in objects {
            let applied = crate::documents::apply(&self.client, MANAGER, self.namespace, object).await?;
            let kind = applied.types.clone().unwrap_or_default().kind;
            self.line(begun, begun, "apply", &format!("{kind} {}", applied.name_any()));
            if kind == "Workflow" {
                uid = applied.uid();
            }
        }
        uid.context("the API server gave the Workflow no UID")
    }

    async fn follow(&self, uid: &str, begun: Moment) -> anyhow::Result<(End, WorkflowStatus)> {
        let filter = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut changes = watcher(self.api.clone(), filter).boxed();
        let mut last = WorkflowStatus::default();
        loop {
            let patience = if not_accepted(&last) {
                self.patience.min(NOT_ACCEPTED)
            } else if last.conditions.is_empty() {
                self.patience.min(NO_OPERATOR)
            } else {
                self.patience
            };
            let Ok(change) = tokio::time::timeout(patience, changes.next()).await else {
                return Ok((End::Stalled(patience.as_secs()), last));
            };
            let workflow = match change {
                Some(Ok(watcher::Event::Apply(workflow) | watcher::Event::InitApply(workflow))) => workflow,
                Some(Ok(watcher::Event::Delete(workflow))) if workflow.uid().as_deref() == Some(uid) => {
                    return Ok((End::Deleted, last));
                }
                Some(Ok(_)) => continue,
                // The watcher tries again by itself; the API server may only be restarting.
                Some(Err(error)) => {
                    self.line(
                        begun,
                        Moment::now(),
                        "watch",
                        &self.style.bad(&format!("interrupted, trying again: {error}")),
                    );
                    continue;
                }
                None => bail!("the watch ended"),
            };
            let status = workflow.status.unwrap_or_default();
            for step in progress::steps(&last, &status, Moment::now()) {
                let text = progress::text(&step, self.style);
                self.line(begun, step.at, &step.subject, &text);
            }
            let end = match status.phase {
                WorkflowPhase::Completed => Some(End::Completed),
                WorkflowPhase::Failed | WorkflowPhase::Cancelled => Some(End::Failed),
                _ => None,
            };
            last = status;
            if let Some(end) = end {
                return Ok((end, last));
            }
        }
    }

    /// Calls the application that was deployed, if one was, and answers where it is.
    async fn visit(&self, status: &WorkflowStatus) -> anyhow::Result<Option<String>> {
        let Some(application) = Application::of(&self.client, status).await? else {
            return Ok(None);
        };
        let address = application.address();
        let title = application
            .visit()
            .await
            .with_context(|| format!("the application at {address} does not answer as it should"))?;
        println!("The application answers over HTTP: {title:?}, at {address}");
        Ok(Some(address))
    }

    /// Wall time, time since the start, who, what.
    fn line(&self, begun: Moment, at: Moment, subject: &str, text: &str) {
        let clock = Zoned::new(at.timestamp(), jiff::tz::TimeZone::system()).strftime("%H:%M:%S");
        let elapsed = progress::seconds(at.millis_since(begun));
        let time = self.style.dim(&format!("{clock} {:>9}", format!("+{elapsed}")));
        let margin = " ".repeat(32);
        let text = text.replace('\n', &format!("\n{margin}"));
        println!("{time}  {subject:<10}  {text}");
    }

    fn say_where_to_look(&self, title: &str) {
        println!(
            "\n{}\n{}",
            self.style.bold(title),
            report::where_to_look(self.namespace, self.name)
        );
    }
}

fn workflow_name(objects: &[DynamicObject]) -> Option<String> {
    objects
        .iter()
        .find(|object| {
            object
                .types
                .as_ref()
                .is_some_and(|types| types.kind == "Workflow")
        })
        .map(kube::ResourceExt::name_any)
}

fn not_accepted(status: &WorkflowStatus) -> bool {
    status
        .conditions
        .iter()
        .any(|condition| condition.type_ == ACCEPTED && condition.status == "False")
}
