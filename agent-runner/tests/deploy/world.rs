//! A deployment over the mock cluster, with a real application behind its Service where one is asked.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use stagecraft_agent_runner::deploy::cluster::Cluster as Way;
use stagecraft_agent_runner::deploy::course::{Course, Done};
use stagecraft_agent_runner::deploy::manifest::Place;
use stagecraft_agent_runner::deploy::places::{Runner, plain_http};
use stagecraft_agent_runner::deploy::release::{Release, Writer};
use stagecraft_api::{AttemptKey, StructuredError};
use tokio::time::Instant;

use crate::cluster::{Behaviour, Cluster};

pub const OLD: &str = "r.example:5000/stagecraft/team/shop@sha256:1";
pub const NEW: &str = "r.example:5000/stagecraft/team/shop@sha256:2";

/// Nothing listens here.
const NOWHERE: u16 = 1;

pub struct World {
    pub cluster: Arc<Cluster>,
    /// Where the application answers.
    port: u16,
}

impl World {
    /// An application that answers, whatever the cluster says of its Pods.
    pub async fn answering(behaviours: &[(&str, Behaviour)]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/", get(|| async { "well" }));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            cluster: Cluster::new(behaviours),
            port,
        }
    }

    /// No application answers.
    pub fn silent(behaviours: &[(&str, Behaviour)]) -> Self {
        Self {
            cluster: Cluster::new(behaviours),
            port: NOWHERE,
        }
    }

    /// The same cluster without its application.
    pub fn fall_silent(&mut self) {
        self.port = NOWHERE;
    }

    pub async fn deploy(&self, writer: &Writer, image: &str) -> Result<Done, StructuredError> {
        let http = plain_http().unwrap();
        let place = Place {
            namespace: "team".into(),
            project: "shop".into(),
        };
        let way = Way::over(self.cluster.client(), place);
        let course = Course {
            cluster: &way,
            runner: &Runner::new(http.clone(), format!("http://127.0.0.1:{NOWHERE}")),
            http: &http,
            port: self.port,
            writer: writer.clone(),
            release: release(writer, image),
            deadline: Instant::now() + Duration::from_mins(10),
        };
        // Boxed, because Kubernetes objects are large values.
        Box::pin(course.run()).await
    }
}

pub fn release(writer: &Writer, image: &str) -> Release {
    Release {
        image: image.into(),
        replicas: 2,
        health_path: "/".into(),
        rollout_timeout_seconds: 120,
        commit: Some("0123456789abcdef0123456789abcdef01234567".into()),
        workflow: writer.workflow.clone(),
        attempt: writer.attempt.clone(),
    }
}

pub fn writer(workflow: &str, attempt: u32) -> Writer {
    Writer {
        workflow: workflow.into(),
        attempt: AttemptKey {
            workflow_uid: format!("uid-of-{workflow}"),
            stage: "deploy".into(),
            attempt,
        },
    }
}
