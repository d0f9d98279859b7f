//! Tells the gateway that the attempt lives, and hears when it has to stop.

use std::sync::Arc;
use std::time::Duration;

use super::gateway::{Gateway, GatewayError};
use super::journal::{Ending, Journal, JournalError};

/// Longest pause after a heartbeat that did not arrive.
const PAUSE: Duration = Duration::from_secs(2);

/// Beats until the attempt ends. A gateway that is away or refuses stops nothing: only its word `cancel` does.
pub async fn beat(gateway: Arc<Gateway>, journal: Arc<Journal>, every: Duration) {
    tokio::select! {
        outcome = beat_until_cancelled(&gateway, &journal, every) => {
            if let Err(error) = outcome {
                tracing::error!(error = %error, "the cancellation cannot be written down");
            }
        }
        () = journal.wait(|progress| progress.ending.map(drop)) => {}
    }
}

async fn beat_until_cancelled(
    gateway: &Gateway,
    journal: &Journal,
    every: Duration,
) -> Result<(), JournalError> {
    loop {
        let state = journal.read().state();
        let pause = match gateway.heartbeat(state).await {
            Ok(reply) => match reply.cancel {
                Some(reason) => {
                    tracing::info!(reason, "the gateway cancels the attempt");
                    return journal.update(|progress| {
                        progress.ending.get_or_insert(Ending::Cancelled);
                    });
                }
                None => every,
            },
            Err(GatewayError::Refused { status, error }) => {
                tracing::warn!(%status, error = %error.message, "heartbeat refused, claiming again");
                if let Err(error) = gateway.claim().await {
                    tracing::warn!(error = %error, "cannot claim");
                }
                every
            }
            Err(error) => {
                tracing::warn!(error = %error, "heartbeat did not arrive");
                every.min(PAUSE)
            }
        };
        tokio::time::sleep(pause).await;
    }
}
