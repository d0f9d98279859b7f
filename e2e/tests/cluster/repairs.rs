//! Work that a check refuses goes back to be made better: once with success, once in vain.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use stagecraft_api::status::StagePhase;
use stagecraft_api::{Workflow, WorkflowTemplate};
use stagecraft_e2e::scenario::app::calculator_by;
use stagecraft_e2e::scenario::samples::set;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, scenario};

const LIMIT: Duration = Duration::from_mins(6);

/// A calculator to which an editor adds a file that is wrong until the round that `rightIn` names.
fn template() -> Value {
    let text = "${{ repair.round < parameters.rightIn ? 'export const broken: number = \"text\";\\n' : 'export const mended = 1;\\n' }}";
    json!({
        "metadata": {"name": "repaired"},
        "spec": {
            "parameters": [{"name": "rightIn", "schema": {"type": "integer"}}],
            "stages": [
                {"name": "scaffold", "agent": "scaffold"},
                {"name": "edit", "agent": "echo", "payload": {"files": {"src/edited.ts": text}}},
                {"name": "validate", "agent": "validation",
                 "gates": [{"metric": "typescriptErrors", "operator": "<=", "threshold": 0},
                           {"metric": "linesCovered", "operator": ">=", "threshold": 100.5, "severity": "warning"}],
                 "repair": {"stage": "edit", "maxRounds": 3}},
            ],
        },
    })
}

fn workflow(name: &str, right_in: u32) -> Value {
    let mut workflow = calculator_by(name, "repaired");
    set(&mut workflow, "/spec", "parameters", json!({"rightIn": right_in}));
    workflow
}

#[test]
fn a_type_error_goes_back_to_the_editor_and_one_that_stays_ends_it() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(template()).await?;
        world.create::<Workflow>(workflow("mended", 1)).await?;
        world.create::<Workflow>(workflow("stubborn", 9)).await?;

        let mended = world.completed("mended", LIMIT).await?;
        for (name, round, attempt) in [("scaffold", 0, 1), ("edit", 1, 2), ("validate", 1, 2)] {
            let stage = stage(&mended, name)?;
            assert_eq!((stage.round, stage.attempt), (round, attempt), "{name}");
        }
        let validate = stage(&mended, "validate")?;
        ensure!(
            validate.message.contains("with warnings: linesCovered"),
            "{}",
            validate.message
        );
        let past = validate
            .history
            .first()
            .context("the first judgement is forgotten")?;
        ensure!(
            past.code == "GateFailed" && past.message.contains("typescriptErrors"),
            "{past:?}"
        );

        let stubborn = world.failed("stubborn", LIMIT).await?;
        let validate = stage(&stubborn, "validate")?;
        assert_eq!((validate.phase, validate.round), (StagePhase::Failed, 1));
        ensure!(
            validate.message.starts_with("round 1 of repair changed nothing"),
            "{}",
            validate.message
        );
        ensure!(stubborn.message.contains("src/edited.ts"), "{}", stubborn.message);
        Ok(())
    })
}
