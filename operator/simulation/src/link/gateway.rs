use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stagecraft_api::AttemptKey;
use stagecraft_api::budget::{Amount, ModelUsage};
use stagecraft_api::protocol::ProviderReport;
use stagecraft_api::provider::BreakerState;
use stagecraft_api::result::AttemptResult;
use stagecraft_operator::gateway::{Answer, Gateway, GatewayError};

use super::{Fate, Process};
use crate::journal::Reply;

/// The operator's way to the gateway.
pub struct GatewayLink(pub Arc<Process>);

impl GatewayLink {
    async fn ask<T>(&self, question: impl FnOnce() -> T) -> Result<T, GatewayError> {
        let unavailable = || GatewayError::Status(reqwest::StatusCode::SERVICE_UNAVAILABLE);
        let fate = self.0.send("asking the gateway").await;
        if matches!(fate, Fate::Lost | Fate::Late) || !self.0.world.gateway_is_up.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        let answer = question();
        self.0.receive("asking the gateway").await;
        if fate == Fate::ReplyLost {
            Err(unavailable())
        } else {
            Ok(answer)
        }
    }
}

impl Gateway for GatewayLink {
    fn result<'a>(&'a self, key: &'a AttemptKey) -> Answer<'a, Option<AttemptResult>> {
        Box::pin(async move {
            let (process, journal) = (&self.0, &self.0.world.journal);
            let served = AtomicU64::new(0);
            let question = || {
                served.store(journal.step(), Ordering::Relaxed);
                process.world.store.result(key)
            };
            let answer = self.ask(question).await;
            let (step, reply) = match &answer {
                Ok(Some(_)) => (served.into_inner(), Reply::Found),
                Ok(None) => (served.into_inner(), Reply::None),
                Err(_) => (journal.step(), Reply::Unavailable),
            };
            journal.asked(&process.name, key, step, reply);
            answer
        })
    }

    /// Nothing in the simulation calls a model.
    fn usage<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<ModelUsage>> {
        Box::pin(self.ask(Vec::new))
    }

    fn provider<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ProviderReport> {
        Box::pin(self.ask(|| ProviderReport {
            unusable: None,
            unreachable: None,
            breaker: BreakerState::Closed,
            open_until: None,
            last_hour: Amount::default(),
            day_used_up: None,
            day_ends: self.0.world.now().plus_seconds(86_400),
        }))
    }

    fn stored_workflows(&self) -> Answer<'_, Vec<String>> {
        Box::pin(self.ask(|| self.0.world.store.workflows()))
    }

    fn purge<'a>(&'a self, uid: &'a str) -> Answer<'a, ()> {
        Box::pin(self.ask(|| self.0.world.store.purge(uid)))
    }
}
