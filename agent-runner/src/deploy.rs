//! The deployment agent: makes an image of the built application, has it pushed, rolls it out and asks the application
//! whether it is well. It runs no generated code, and is the only agent with a service account.
//!
//! Reading order: [`places`] is what it is given; [`image`] with [`archive`] makes the image; [`course`] is the deployment,
//! with [`release`] and [`manifest`] as what is deployed, [`fence`] and [`cluster`] as how it is written, [`rollout`],
//! [`wait`] and [`health`] as how it is judged, [`diagnosis`] and [`failure`] as what is told when it is not well.

pub mod archive;
pub mod cluster;
pub mod course;
pub mod diagnosis;
pub mod failure;
pub mod fence;
pub mod health;
pub mod image;
pub mod manifest;
pub mod places;
pub mod release;
pub mod rollout;
pub mod wait;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::payload::DeploymentPayload;
use stagecraft_api::result::AgentResult;
use stagecraft_api::{Category, Moment, StructuredError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use self::cluster::Cluster;
use self::course::{Course, Done};
use self::image::Recipe;
use self::manifest::{Place, SERVICE_PORT};
use self::places::{Places, Runner};
use self::release::{Release, Writer};
use crate::task;

/// Name of the image layout below the artifacts.
const LAYOUT: &str = "image";
/// Exit status of a process that SIGTERM ended, as shells have it.
const TERMINATED: u8 = 143;

/// Does the task that the environment names.
pub fn main() -> ExitCode {
    task::finish(run)
}

fn run() -> anyhow::Result<ExitCode> {
    let surroundings = task::Places::from_environment()?;
    let places = Places::from_environment()?;
    let task = surroundings.read_task()?;
    let payload = places::payload(&task)?;
    let runner = surroundings
        .runner
        .clone()
        .context("the variable STAGECRAFT_RUNNER_URL is not set")?;
    // The first to be installed counts; every client here would choose the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
        let outcome = tokio::select! {
            outcome = deploy(&places, &task, &payload, runner) => Some(outcome?),
            _ = terminate.recv() => None,
        };
        anyhow::Ok(outcome)
    })?;
    runtime.shutdown_background();
    let Some(outcome) = outcome else {
        println!("deployment: told to end; the next attempt goes on from what is there");
        return Ok(ExitCode::from(TERMINATED));
    };
    let result = outcome.unwrap_or_else(|error| {
        println!("deployment: {}: {}", error.code, error.message);
        AgentResult {
            error: Some(error),
            ..AgentResult::default()
        }
    });
    surroundings.write_result(&result)?;
    Ok(ExitCode::SUCCESS)
}

/// The outer error is one of the agent's surroundings, the inner one that of the deployment.
async fn deploy(
    places: &Places,
    task: &TaskEnvelope,
    payload: &DeploymentPayload,
    runner: String,
) -> anyhow::Result<Result<AgentResult, StructuredError>> {
    let http = places::plain_http().context("the HTTP client cannot be made")?;
    let runner = Runner::new(http.clone(), runner);
    let deadline = Instant::now() + Duration::from_millis(task.deadline.millis_since(Moment::now()));
    let outcome = async {
        let place = place(task)?;
        let image = make_image(places, task, &runner).await?;
        let cluster = Cluster::from_pod(place).map_err(|error| error.structured())?;
        let course = Course {
            cluster: &cluster,
            runner: &runner,
            http: &http,
            port: SERVICE_PORT,
            writer: Writer::new(task),
            release: Release::new(task, payload, image),
            deadline,
        };
        let done = Box::pin(course.run()).await?;
        let result = result(&cluster.place, &course.release, &done);
        runner.tell(&result.summary).await;
        Ok(result)
    };
    Ok(Box::pin(outcome).await)
}

/// The project's name becomes that of a Service, whose names begin with a letter.
fn place(task: &TaskEnvelope) -> Result<Place, StructuredError> {
    let project = task.project.name.clone();
    if !project.starts_with(|first: char| first.is_ascii_lowercase()) {
        let message =
            format!("the project is called {project}, but the name of a Service begins with a letter");
        return Err(StructuredError::new("NameInvalid", Category::Validation, message)
            .suggest("choose a project.name that begins with a letter in a new Workflow")
            .fatal());
    }
    Ok(Place {
        namespace: task.workflow.namespace.clone(),
        project,
    })
}

/// Builds the image and has it pushed. Answers what nodes pull.
async fn make_image(
    places: &Places,
    task: &TaskEnvelope,
    runner: &Runner,
) -> Result<String, StructuredError> {
    let recipe = Recipe {
        server: places.web_server.clone(),
        distribution: places.distribution()?,
        project: task.project.name.clone(),
        commit: task.workspace.as_ref().map(|workspace| workspace.commit.clone()),
    };
    let directory = places.artifacts.join(LAYOUT);
    let building = tokio::task::spawn_blocking(move || image::build(&recipe, &directory));
    let built = building
        .await
        .map_err(|error| StructuredError::new("ImageNotBuilt", Category::Unknown, error.to_string()))?
        .map_err(|error| error.structured())?;
    let message = format!(
        "the image {} holds {} files in {} bytes",
        built.digest, built.files, built.bytes
    );
    runner.tell(&message).await;
    let reference = runner.push_image(LAYOUT).await?;
    runner.tell(&format!("pushed {reference}")).await;
    Ok(reference)
}

fn result(place: &Place, release: &Release, done: &Done) -> AgentResult {
    let Place { namespace, project } = place;
    let endpoint = format!("http://{project}.{namespace}.svc");
    let (registry, path) = release.image.split_once('/').unwrap_or_default();
    let repository = path.split_once('@').map_or(path, |(repository, _)| repository);
    let outputs = json!({
        "image": release.image,
        "registry": registry,
        "repository": repository,
        "namespace": namespace,
        "deployment": project,
        "service": project,
        "endpoint": endpoint,
        "replicas": release.replicas,
        "status": "available",
        "health": format!("200 in {} ms", done.answered_in.as_millis()),
        "revision": done.revision,
        "previous": done.previous,
    });
    AgentResult {
        summary: format!("deployed {project}: {} available at {endpoint}", release.replicas),
        outputs: match outputs {
            Value::Object(outputs) => outputs,
            _ => Map::new(),
        },
        ..AgentResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outputs_say_what_runs_where() {
        let place = Place {
            namespace: "team".into(),
            project: "shop".into(),
        };
        let release = release::tests::release("r.example:5000/stagecraft/team/shop@sha256:7", 2);
        let done = Done {
            answered_in: Duration::from_millis(12),
            revision: Some("4".into()),
            previous: None,
        };
        let result = result(&place, &release, &done);
        assert_eq!(
            Value::Object(result.outputs),
            json!({"image": "r.example:5000/stagecraft/team/shop@sha256:7", "registry": "r.example:5000",
                "repository": "stagecraft/team/shop", "namespace": "team", "deployment": "shop", "service": "shop",
                "endpoint": "http://shop.team.svc", "replicas": 2, "status": "available", "health": "200 in 12 ms",
                "revision": "4", "previous": null})
        );
    }
}
