//! Calculators one after the other.

use std::time::Duration;

use stagecraft_api::Workflow;
use stagecraft_e2e::scenario::app::calculator;
use stagecraft_e2e::scenario::{Isolation, scenario};

use crate::apps::{ONE, answers};

#[test]
fn five_calculators_in_a_row() -> anyhow::Result<()> {
    scenario(Isolation::Shared, Duration::from_mins(25), async |world| {
        for round in 1..=5 {
            let name = format!("row-{round}");
            world.create::<Workflow>(calculator(&name)).await?;
            let status = world.completed(&name, ONE).await?;
            answers(world, &status, &name).await?;
        }
        Ok(())
    })
}
