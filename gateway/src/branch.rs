//! A runner reads the branch that its task names, and moves it when its task is to integrate. Which namespace and project the branch belongs to follows from
//! the attempt, never from the request.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::response::Response;
use stagecraft_api::payload::{BuiltInPayload, Payload};
use stagecraft_api::protocol::{BranchEntry, BranchReply, MoveBranchRequest};
use stagecraft_api::{Digest, Moment};
use tracing::Instrument as _;

use crate::authorize::Member;
use crate::blob;
use crate::body::Json;
use crate::error::Refusal;
use crate::identity::PodIdentity;
use crate::router::{Gateway, StagePod};
use crate::store::branches::{Branch, Copied, Turn};
use crate::{result, telemetry, verify};

/// Largest request to move a branch, in bytes: a stage's outputs, artifacts and metrics have room in it.
const REQUEST_BYTES: usize = 64 * 1024;
/// Longest name of a branch, in bytes.
const NAME_BYTES: usize = 100;

/// Where the branch stands, and what the caller's stage has made of it before.
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Path(name): Path<String>,
) -> Result<axum::Json<BranchReply>, Refusal> {
    let (member, branch) = begin(&gateway, &caller, &name, Purpose::Read).await?;
    let tip = gateway.store.tip(&branch).await?;
    let own = gateway.store.move_of(&branch, &member.key).await?;
    Ok(axum::Json(BranchReply { tip, own }))
}

/// The bundle of the tip.
pub async fn bundle(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let (_, branch) = begin(&gateway, &caller, &name, Purpose::Read).await?;
    let tip = gateway.store.tip(&branch).await?;
    let tip = tip.ok_or(Refusal::NoBranch(name))?;
    let found = gateway.store.bundle(&branch, &tip.workspace.bundle).await?;
    let found = found.ok_or(Refusal::NoBlob(tip.workspace.bundle))?;
    Ok(blob::stream(found, &gateway.metrics))
}

/// Moves the branch if it stands where the caller says. Repeating it from the same attempt gives the same answer; another
/// attempt of the stage cannot move it a second time.
pub async fn advance(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Path(name): Path<String>,
    Json(request): Json<MoveBranchRequest, REQUEST_BYTES>,
) -> Result<axum::Json<BranchEntry>, Refusal> {
    let started = Instant::now();
    let (member, branch) = begin(&gateway, &caller, &name, Purpose::Move).await?;
    let MoveBranchRequest {
        expected,
        workspace,
        outputs,
    } = request;
    let named = verify::check_workspace(&workspace).map_err(Refusal::Invalid)?;
    let turn = || {
        let store = &gateway.store;
        store.turn(&branch, &member.key, expected.as_deref(), &workspace.commit)
    };
    // Asked before anything is copied: most refusals are known by now.
    if let ControlFlow::Break(entry) = admit(turn().await?, &branch)? {
        return Ok(axum::Json(entry));
    }
    result::require(&gateway, &member, &named).await?;
    let keeping = keep(
        gateway.clone(),
        member.clone(),
        branch.clone(),
        workspace.bundle.clone(),
    );
    // Goes on when the runner hangs up: it comes again, and then finds the copy.
    let kept = gateway.background.spawn(keeping.in_current_span()).await;
    kept.map_err(|_| Refusal::Busy)??;
    // Copies take their time: asked again at the last moment, and as often as another mover has the number.
    loop {
        gateway.chain.live(&caller).await?.current()?;
        let (number, from) = match admit(turn().await?, &branch)? {
            ControlFlow::Continue(next) => next,
            ControlFlow::Break(entry) => return Ok(axum::Json(entry)),
        };
        let entry = BranchEntry {
            number,
            workspace: workspace.clone(),
            from,
            moved_by: member.key.clone(),
            at: Moment::now(),
            outputs: outputs.clone(),
        };
        gateway.held(&member).await?;
        if gateway.store.record(&branch, &entry).await? {
            tracing::info!(
                project = branch.project,
                branch = branch.name,
                number,
                commit = entry.workspace.commit,
                seconds = started.elapsed().as_secs_f64(),
                "branch moved"
            );
            return Ok(axum::Json(entry));
        }
    }
}

/// Whether the blob was uploaded by an earlier attempt of the caller's stage, whose move of the branch the caller takes over
/// instead of making one.
pub async fn is_taken_over(
    gateway: &Gateway,
    member: &Member,
    digest: &Digest,
    bytes: u64,
) -> Result<bool, Refusal> {
    let Ok(branch) = own(member, Purpose::Move) else {
        return Ok(false);
    };
    match gateway.store.move_of(&branch, &member.key).await? {
        Some(entry) => Ok(gateway.store.uploaded(&entry.moved_by, digest, bytes).await?),
        None => Ok(false),
    }
}

/// What a branch is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Read,
    Move,
}

async fn begin(
    gateway: &Gateway,
    caller: &PodIdentity,
    name: &str,
    purpose: Purpose,
) -> Result<(Arc<Member>, Branch), Refusal> {
    let seen = gateway.chain.live(caller).await?;
    telemetry::identify(&seen.member);
    let member = seen.current()?.clone();
    let branch = own(&member, purpose)?;
    if branch.name != name {
        return Err(Refusal::NotOwnBranch {
            wanted: name.to_owned(),
            own: branch.name,
        });
    }
    gateway.held(&member).await?;
    Ok((member, branch))
}

/// The one branch that the attempt may read or move.
fn own(member: &Member, purpose: Purpose) -> Result<Branch, Refusal> {
    let (field, name) = match (&member.envelope.payload, purpose) {
        (Payload::BuiltIn(BuiltInPayload::Integration(payload)), _) => {
            ("targetBranch", &payload.target_branch)
        }
        (Payload::BuiltIn(BuiltInPayload::Scaffold(payload)), Purpose::Read) => {
            ("baseBranch", &payload.base_branch)
        }
        (other, _) => {
            return Err(Refusal::WrongAgent {
                wanted: "integration",
                found: other.agent().to_owned(),
            });
        }
    };
    if !is_name(name) {
        return Err(Refusal::Invalid(format!(
            "payload.{field} {name:?} is no name of a branch: use 1 to {NAME_BYTES} letters, digits, dots, dashes and \
             underscores, beginning and ending with a letter or digit"
        )));
    }
    Ok(Branch {
        namespace: member.namespace.clone(),
        project: member.envelope.project.name.clone(),
        name: name.clone(),
    })
}

/// What [`stagecraft_api::payload::IntegrationPayload`] and [`stagecraft_api::payload::ScaffoldPayload`] demand of it.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric();
    name.len() <= NAME_BYTES
        && name.bytes().next().is_some_and(is_plain)
        && name.bytes().last().is_some_and(is_plain)
        && name
            .bytes()
            .all(|byte| is_plain(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// Number and origin of the move to make, or the one that was made before.
fn admit(turn: Turn, branch: &Branch) -> Result<ControlFlow<BranchEntry, (u64, Option<String>)>, Refusal> {
    match turn {
        Turn::Next { number, from } => Ok(ControlFlow::Continue((number, from))),
        Turn::Repeated(entry) => Ok(ControlFlow::Break(entry)),
        Turn::Spent(entry) => Err(Refusal::AlreadyMoved {
            branch: branch.name.clone(),
            attempt: entry.moved_by.attempt,
            commit: entry.workspace.commit,
        }),
        Turn::Elsewhere(tip) => Err(Refusal::BranchMoved {
            branch: branch.name.clone(),
            tip: tip.map(|tip| tip.workspace.commit),
        }),
    }
}

async fn keep(
    gateway: Arc<Gateway>,
    member: Arc<Member>,
    branch: Branch,
    digest: Digest,
) -> Result<(), Refusal> {
    let uid = &member.key.workflow_uid;
    match gateway.store.keep_bundle(&branch, uid, &digest).await? {
        Copied::Whole => Ok(()),
        Copied::Absent => Err(Refusal::NoBlob(digest)),
        Copied::Different(found) => Err(Refusal::DigestMismatch {
            stated: digest,
            found,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_of_branches_stay_below_their_project() {
        for name in ["main", "a", "release-1.2", "A_b.c", &"x".repeat(100)] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(101);
        for name in [
            "", ".", "..", "a/b", "../main", ".main", "main.", "-a", "a b", "ä", "a\0b", &long,
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
