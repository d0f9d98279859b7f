//! The course of one attempt, from the claim to the result.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::chain;
use stagecraft_api::failure::POD_TERMINATED;
use stagecraft_api::protocol::ClaimReply;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::{Category, Moment, StructuredError};

use super::collect::{self, Collected};
use super::events::Events;
use super::gateway::{Gateway, GatewayError, with_retries};
use super::heartbeat;
use super::integrate;
use super::journal::{Claimed, Conclusion, Ending, Journal, JournalError, Progress};
use super::judge;
use super::layout::Layout;
use super::prepare::{self, Prepared};
use super::ready;
use super::telemetry;
use crate::loopback::ExitReport;

/// Pause after a refused claim. The operator sweeps a Pod that belongs to no attempt.
const CLAIM_PAUSE: Duration = Duration::from_secs(10);
/// Code of a result that replaces one that the gateway refused.
const RESULT_REFUSED: &str = "ResultRefused";

/// Why the runner has to start anew.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    #[error("progress cannot be kept")]
    Journal(#[from] JournalError),
    #[error("the agent's container cannot be let go")]
    Ready(#[source] std::io::Error),
}

/// What an attempt is judged by.
enum End {
    /// The agent's command ended.
    Exit(ExitReport),
    /// No agent was needed.
    Over(Box<Collected>),
}

/// One attempt with everything that it needs.
pub struct Attempt {
    pub layout: Layout,
    pub journal: Arc<Journal>,
    pub gateway: Arc<Gateway>,
    pub events: Events,
}

impl Attempt {
    /// Goes on from where the journal stands, until nothing more is to do.
    pub async fn run(&self) -> Result<(), AttemptError> {
        let reply = self.claim().await?;
        let task = reply.envelope;
        let every = Duration::from_secs(u64::from(reply.heartbeat_seconds.max(1)));
        let beats = heartbeat::beat(Arc::clone(&self.gateway), Arc::clone(&self.journal), every);
        let course = async {
            tokio::select! {
                biased;
                () = self.journal.wait(|progress| progress.ending.map(drop)) => Ok(()),
                outcome = self.follow(&task) => outcome,
            }
        };
        let ((), outcome) = tokio::join!(beats, course);
        outcome?;
        // Whoever waits must not wait for ever. Unless all was prepared there is no launcher, so that no agent starts.
        ready::open(&self.layout).map_err(AttemptError::Ready)?;
        tracing::info!(ending = ?self.journal.read().ending, "nothing more is to do");
        Ok(())
    }

    /// The task, from the journal or the gateway. A runner that starts again works with what it knows and claims again
    /// beside that, because the gateway may have forgotten.
    async fn claim(&self) -> Result<ClaimReply, AttemptError> {
        let known = self.journal.read().claim.clone();
        if let Some(Claimed { reply, .. }) = known {
            telemetry::identify(&reply.envelope);
            tracing::info!(state = self.journal.read().state(), "going on");
            let gateway = Arc::clone(&self.gateway);
            let again = async move {
                if let Err(error) = with_retries("claim again", || gateway.claim()).await {
                    tracing::warn!(error = %error, "cannot claim again");
                }
            };
            tokio::spawn(tracing::Instrument::in_current_span(again));
            return Ok(reply);
        }
        let reply = loop {
            match with_retries("claim", || self.gateway.claim()).await {
                Ok(reply) => break reply,
                Err(error) => tracing::warn!(error = %error, "the claim is refused, asking again"),
            }
            tokio::time::sleep(CLAIM_PAUSE).await;
        };
        telemetry::identify(&reply.envelope);
        tracing::info!(agent = reply.envelope.payload.agent(), deadline = %reply.envelope.deadline, "claimed");
        let claimed = Claimed {
            at: Moment::now(),
            reply: reply.clone(),
        };
        self.journal.update(|progress| progress.claim = Some(claimed))?;
        Ok(reply)
    }

    async fn follow(&self, task: &TaskEnvelope) -> Result<(), AttemptError> {
        let concluded = self.journal.read().conclusion.is_some();
        if !concluded {
            let outcome = tokio::select! {
                // An exit that is known counts, however late it is read.
                biased;
                ended = self.until_end(task) => match ended? {
                    Ok(End::Exit(exit)) => self.settle(task, exit).await,
                    Ok(End::Over(collected)) => Ok(*collected),
                    Err(error) => Err(error),
                },
                error = self.until_exhausted() => Err(error),
                () = sleep_until(task.deadline) => Err(judge::timed_out(task)),
            };
            self.conclude(task, outcome)?;
        }
        // An agent that never was prepared has nothing to wait for. Where the stage is at a good end without one, its
        // container fails as soon as it may start: by then the result has to be in the gateway.
        let over = {
            let progress = self.journal.read();
            !progress.prepared && progress.succeeded()
        };
        if !over {
            ready::open(&self.layout).map_err(AttemptError::Ready)?;
        }
        self.report(task).await
    }

    /// Until the launcher says how the command ended, or no command is needed; an error when it never can start.
    async fn until_end(&self, task: &TaskEnvelope) -> Result<Result<End, StructuredError>, AttemptError> {
        let prepared = self.journal.read().prepared;
        if !prepared {
            match prepare::prepare(&self.layout, &self.gateway, task).await {
                Ok(Prepared::Ready { integration, base }) => self.journal.update(|progress| {
                    progress.prepared = true;
                    progress.integration = integration;
                    progress.base = base;
                })?,
                Ok(Prepared::Over(collected)) => {
                    let message = "an earlier attempt has moved the branch: its result is taken over";
                    tracing::info!(message);
                    self.events.runner(message);
                    return Ok(Ok(End::Over(collected)));
                }
                Err(error) => {
                    tracing::error!(error = %chain(&error), "the Pod cannot be prepared");
                    return Ok(Err(error.structured()));
                }
            }
        }
        ready::open(&self.layout).map_err(AttemptError::Ready)?;
        let exit = self.journal.wait(|progress| progress.exit.clone()).await;
        Ok(Ok(End::Exit(exit)))
    }

    /// Until an agent has gone on for too long without a budget.
    async fn until_exhausted(&self) -> StructuredError {
        let due = |progress: &Progress| {
            let trouble = progress.model_trouble.clone()?;
            Some((trouble.stops_at()?, trouble))
        };
        let (at, trouble) = self.journal.wait(due).await;
        sleep_until(at).await;
        trouble.structured()
    }

    /// What the attempt comes to by the exit of its command. One that failed when its model could not be called failed of that.
    async fn settle(&self, task: &TaskEnvelope, exit: ExitReport) -> Result<Collected, StructuredError> {
        let judged = self.judge(task, exit).await;
        let trouble = self.journal.read().model_trouble.clone();
        let collected = judged.map_err(|error| match trouble {
            Some(trouble) if error.code != POD_TERMINATED => trouble.structured(),
            _ => error,
        })?;
        let integration = self.journal.read().integration.clone();
        integrate::finish(&self.layout, &self.gateway, integration, task, collected).await
    }

    async fn judge(&self, task: &TaskEnvelope, exit: ExitReport) -> Result<Collected, StructuredError> {
        let layout = self.layout.clone();
        let task = task.clone();
        let (evidence, base) = {
            let progress = self.journal.read();
            (progress.evidence.clone(), progress.base.clone())
        };
        let span = tracing::Span::current();
        let collected = tokio::task::spawn_blocking(move || {
            span.in_scope(|| {
                // Once a session is open the result file counts for nothing: whatever is checked can write there.
                let result = match &evidence {
                    None => judge::read_result(&layout),
                    Some(evidence) => evidence.result.clone().ok_or_else(judge::evidence_missing),
                };
                let result = judge::judge(&exit, result)?;
                collect::collect(&layout, &task, result, base.as_deref(), evidence.as_ref()).map_err(
                    |error| {
                        tracing::warn!(error = %chain(&error), "nothing can be collected");
                        error.structured()
                    },
                )
            })
        });
        collected.await.unwrap_or_else(|error| {
            let message = format!("the work could not be collected: {error}");
            Err(StructuredError::new("CommitFailed", Category::Unknown, message))
        })
    }

    fn conclude(
        &self,
        task: &TaskEnvelope,
        outcome: Result<Collected, StructuredError>,
    ) -> Result<(), AttemptError> {
        let (outcome, uploads) = match outcome {
            Ok(Collected {
                outcome,
                uploads,
                skipped,
            }) => {
                if !skipped.is_empty() {
                    let message = format!("left out of the commit: {}", skipped.join(", "));
                    tracing::warn!(message);
                    self.events.runner(&message);
                }
                (outcome, uploads)
            }
            Err(error) => {
                tracing::info!(code = error.code, message = error.message, "the attempt failed");
                (Outcome::Failed { error }, Vec::new())
            }
        };
        self.journal.update(|progress| {
            let now = Moment::now();
            let started_at = progress.claim.as_ref().map_or(now, |claim| claim.at);
            progress.conclusion = Some(Conclusion {
                result: AttemptResult {
                    attempt: task.attempt.clone(),
                    started_at,
                    finished_at: now,
                    usage: progress.exit.as_ref().and_then(|exit| exit.usage),
                    outcome,
                },
                uploads,
            });
        })?;
        Ok(())
    }

    /// Hands in the conclusion. One that the gateway refuses is replaced, once, by that refusal.
    async fn report(&self, task: &TaskEnvelope) -> Result<(), AttemptError> {
        loop {
            let Some(conclusion) = self.journal.read().conclusion.clone() else {
                return Ok(());
            };
            let ending = match self.hand_in(&conclusion).await {
                Ok(()) => Ending::Reported,
                Err(GatewayError::Refused {
                    status: status @ (StatusCode::CONFLICT | StatusCode::FORBIDDEN),
                    error,
                }) => {
                    tracing::warn!(%status, error = %error.message, "the gateway wants no result");
                    Ending::Refused
                }
                Err(error) if is_refusal(&conclusion) => {
                    tracing::error!(error = %chain(&error), "the gateway takes not even its own refusal");
                    Ending::Refused
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the result is refused");
                    let message = chain(&error);
                    let refusal = StructuredError::new(RESULT_REFUSED, Category::Validation, message);
                    self.conclude(task, Err(refusal))?;
                    continue;
                }
            };
            self.journal.update(|progress| {
                progress.ending.get_or_insert(ending);
            })?;
            return Ok(());
        }
    }

    async fn hand_in(&self, conclusion: &Conclusion) -> Result<(), GatewayError> {
        for upload in &conclusion.uploads {
            let file = self.layout.blobs().join(upload.digest.hex());
            self.gateway.upload(&upload.digest, upload.bytes, &file).await?;
        }
        let reply = self.gateway.report(&conclusion.result).await?;
        tracing::info!(stored = reply.stored, "the gateway has the result");
        Ok(())
    }
}

fn is_refusal(conclusion: &Conclusion) -> bool {
    matches!(&conclusion.result.outcome, Outcome::Failed { error } if error.code == RESULT_REFUSED)
}

/// Waits until the wall clock is there. The clock may be set meanwhile, so it is looked at every now and then.
async fn sleep_until(deadline: Moment) {
    const LONGEST: Duration = Duration::from_secs(5);
    loop {
        let left = Duration::from_millis(deadline.millis_since(Moment::now()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST)).await;
    }
}
