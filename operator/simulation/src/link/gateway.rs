use std::sync::Arc;
use std::sync::atomic::Ordering;

use stagecraft_api::AttemptKey;
use stagecraft_api::result::AttemptResult;
use stagecraft_operator::gateway::{Answer, Gateway, GatewayError};

use super::{Fate, Process};

/// The operator's way to the gateway.
pub struct GatewayLink(pub Arc<Process>);

impl GatewayLink {
    async fn ask<T>(&self, question: impl FnOnce() -> T) -> Result<T, GatewayError> {
        let unavailable = || GatewayError::Status(reqwest::StatusCode::SERVICE_UNAVAILABLE);
        let fate = self.0.send().await;
        if matches!(fate, Fate::Lost | Fate::Late) || !self.0.world.gateway_is_up.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        let answer = question();
        self.0.receive().await;
        if fate == Fate::ReplyLost {
            Err(unavailable())
        } else {
            Ok(answer)
        }
    }
}

impl Gateway for GatewayLink {
    fn result<'a>(&'a self, key: &'a AttemptKey) -> Answer<'a, Option<AttemptResult>> {
        Box::pin(self.ask(|| self.0.world.store.result(key)))
    }

    fn stored_workflows(&self) -> Answer<'_, Vec<String>> {
        Box::pin(self.ask(|| self.0.world.store.workflows()))
    }

    fn purge<'a>(&'a self, uid: &'a str) -> Answer<'a, ()> {
        Box::pin(self.ask(|| self.0.world.store.purge(uid)))
    }
}
