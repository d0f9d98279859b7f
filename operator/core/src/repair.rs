//! Work that is not good enough goes back to the stage that can make it better, with what was found: a bounded number of rounds, and no
//! further once a round changes nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stagecraft_api::Digest;
use stagecraft_api::envelope::RepairTask;
use stagecraft_api::error::{StructuredError, one_line, truncate};
use stagecraft_api::limit;
use stagecraft_api::run::{Run, RunStage};
use stagecraft_api::status::{RepairStatus, StagePhase, StageStatus, WorkspaceRef};
use stagecraft_api::template::Repair;

use crate::accept::waits_for;
use crate::advance::Draft;
use crate::ending::Part;
use crate::envelope::workspace;

impl Draft<'_> {
    /// Sends the work back that a stage does not take, or says why that would be in vain. `digest` is that of what is wrong with it.
    pub(crate) fn send_back(
        &mut self,
        run: &RunStage,
        repair: &Repair,
        error: &StructuredError,
        digest: Digest,
    ) -> Result<(), String> {
        let workspace = workspace(run, self.run, &self.status.stages);
        let again = following(self.run, &repair.stage);
        let round = self.next_round(&again);
        let Some(stage) = self.stage_mut(&run.name) else {
            return Ok(());
        };
        let count = stage.repair.as_ref().map_or(0, |last| last.count);
        let found = RepairStatus {
            round,
            count: count.saturating_add(1),
            digest,
            workspace,
        };
        in_vain(stage, &found, repair)?;
        let count = found.count;
        let judged = StageStatus {
            repair: Some(found),
            ..stage.clone()
        };
        let what = format!(
            "sent back to {} (round {count} of {}): {}",
            repair.stage, repair.max_rounds, error.message
        );
        for name in again {
            self.reset(&name, round);
        }
        if let Some(stage) = self.stage_mut(&run.name) {
            // What was found is read until it is found anew.
            stage.repair = judged.repair;
            stage.summary = judged.summary;
            stage.outputs = judged.outputs;
            stage.artifacts = judged.artifacts;
            stage.gates = judged.gates;
            stage.usage = judged.usage;
            stage.error = Some(error.clone());
            stage.message = truncate(&one_line(&what), limit::MESSAGE_BYTES);
        }
        let key = self.key(&run.name, judged.attempt);
        self.notice(key, true, "SentBack", &format!("stage {}: {what}", run.name));
        Ok(())
    }

    /// Higher than any round of this run that one of the stages was part of, whoever asked for that.
    fn next_round(&self, stages: &BTreeSet<String>) -> u32 {
        let status = &self.status;
        let rounds = status
            .stages
            .iter()
            .filter(|stage| stages.contains(&stage.name) && stage.run == status.run)
            .map(|stage| stage.round);
        rounds.max().unwrap_or(0).saturating_add(1)
    }

    /// Its next round is part of the Workflow's current run, whatever run the stage had its last one in.
    fn reset(&mut self, name: &str, round: u32) {
        let current = self.status.run;
        let Some(pinned) = self.run.stage(name) else {
            return;
        };
        let Some(stage) = self.stage_mut(name) else { return };
        let before = std::mem::take(stage);
        let runs = before.phase == StagePhase::Running;
        let (job, attempt) = (before.job.clone(), before.attempt);
        *stage = StageStatus {
            name: before.name,
            agent: before.agent,
            run: before.run.max(current),
            round,
            attempt: before.attempt,
            job: before.job,
            history: before.history,
            // Rounds are counted by run.
            repair: before.repair.filter(|_| before.run == current),
            message: waits_for(pinned),
            ..StageStatus::default()
        };
        let key = self.key(name, attempt);
        if runs && !self.ended.contains(&key) {
            self.closes.push((job, key.clone()));
            self.ended.push(key);
        }
    }
}

/// The digest of what the gates of a stage refuse.
pub(crate) fn digest_of_findings(stage: &StageStatus) -> Digest {
    Digest::of(
        json!([stage.gates, stage.outputs.get("findings")])
            .to_string()
            .as_bytes(),
    )
}

/// Why another round cannot help.
fn in_vain(stage: &StageStatus, found: &RepairStatus, repair: &Repair) -> Result<(), String> {
    let Some(last) = &stage.repair else { return Ok(()) };
    let rounds = last.count;
    if rounds >= repair.max_rounds {
        return Err(format!("{rounds} rounds of repair were not enough"));
    }
    // Another stage has sent the work back since: that round had another trouble to repair.
    if last.round != stage.round {
        return Ok(());
    }
    if last.digest == found.digest {
        return Err(format!(
            "round {rounds} of repair changed nothing about what is found"
        ));
    }
    let commit = |judged: &RepairStatus| {
        judged
            .workspace
            .as_ref()
            .map(|workspace| workspace.commit.clone())
    };
    if last.workspace.is_some() && commit(last) == commit(found) {
        return Err(format!("round {rounds} of repair left the work as it was"));
    }
    Ok(())
}

/// A stage and all that follows upon it, but for those of `finally`.
fn following(run: &Run, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([from.to_owned()]);
    loop {
        let more: Vec<String> = run
            .stages
            .iter()
            .filter(|stage| Part::Main.has(stage) && !found.contains(&stage.name))
            .filter(|stage| stage.needs.iter().any(|need| found.contains(need)))
            .map(|stage| stage.name.clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// The stage that began the round of another with what it judged.
fn sender<'run>(
    stage: &RunStage,
    run: &'run Run,
    stages: &'run [StageStatus],
) -> Option<(&'run StageStatus, &'run RepairStatus)> {
    let find = |name: &str| stages.iter().find(|status| status.name == name);
    let round = find(&stage.name)?.round;
    let senders = run.stages.iter().filter(|other| {
        let repaired = other.repair.as_ref().map(|repair| &repair.stage);
        let rejected = other
            .approval
            .as_ref()
            .and_then(|approval| approval.back_to.as_ref());
        let goes_here = repaired
            .into_iter()
            .chain(rejected)
            .any(|name| *name == stage.name);
        goes_here && round > 0
    });
    senders
        .filter_map(|other| {
            let judged = find(&other.name)?;
            Some((judged, judged.repair.as_ref()?))
        })
        .find(|(_, asked)| asked.round == round)
}

/// The work that a stage is to make better in its round.
pub(crate) fn workspace_to_repair(
    stage: &RunStage,
    run: &Run,
    stages: &[StageStatus],
) -> Option<WorkspaceRef> {
    let (_, asked) = sender(stage, run, stages)?;
    asked.workspace.clone()
}

/// What a stage is to make better in its round.
pub(crate) fn task(stage: &RunStage, run: &Run, stages: &[StageStatus]) -> Option<RepairTask> {
    let (judged, asked) = sender(stage, run, stages)?;
    let findings = judged.outputs.get("findings").and_then(Value::as_array);
    Some(RepairTask {
        stage: judged.name.clone(),
        round: asked.round,
        message: judged
            .error
            .as_ref()
            .map(|error| error.message.clone())
            .unwrap_or_default(),
        findings: findings.cloned().unwrap_or_default(),
    })
}
