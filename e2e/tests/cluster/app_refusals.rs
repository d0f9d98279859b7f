//! What the built-in provider cannot make, and the types of work that take a model.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use stagecraft_api::Workflow;
use stagecraft_e2e::scenario::app::calculator;
use stagecraft_e2e::scenario::samples::set;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, scenario};

const LIMIT: Duration = Duration::from_mins(12);
const ONE: Duration = Duration::from_mins(6);

#[test]
fn what_the_built_in_provider_cannot_make_says_which_would() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let mut workflow = calculator("chess");
        let requirements = json!([
            "Play chess against the computer.",
            "Keep the games in PostgreSQL."
        ]);
        set(&mut workflow, "/spec/project", "requirements", requirements);
        set(
            &mut workflow,
            "/spec/project",
            "description",
            json!("A chess server."),
        );
        world.create::<Workflow>(workflow).await?;
        let status = world.failed("chess", ONE).await?;
        let failed = stage(&status, "scaffold")?;
        let error = failed.error.as_ref().context("no error")?;
        assert_eq!((error.code.as_str(), failed.attempt), ("ProviderCannotMake", 1));
        ensure!(error.message.contains("Play chess"), "{error:?}");
        let action = error.suggested_action.clone().unwrap_or_default();
        ensure!(action.contains("ModelProvider"), "{error:?}");
        Ok(())
    })
}

#[test]
fn work_that_takes_a_model_ends_at_once_and_says_so() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let kinds = ["service", "feature", "bugfix", "capability"];
        for kind in kinds {
            let mut workflow = calculator(kind);
            set(&mut workflow, "/spec", "type", json!(kind));
            world.create::<Workflow>(workflow).await?;
        }
        for kind in kinds {
            let status = world.failed(kind, ONE).await?;
            let failed = stage(&status, "scaffold")?;
            let error = failed.error.as_ref().context("no error")?;
            assert_eq!((error.code.as_str(), failed.attempt), ("ProviderCannotMake", 1));
            let why = format!("no work of type {kind}");
            ensure!(error.message.contains(&why), "{error:?}");
            ensure!(status.message.contains(&why), "{}", status.message);
            let action = error.suggested_action.clone().unwrap_or_default();
            ensure!(action.contains("ModelProvider"), "{error:?}");
        }
        Ok(())
    })
}
