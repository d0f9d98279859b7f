//! The branch `main`, with the rules of the real gateway.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use stagecraft_api::Moment;
use stagecraft_api::protocol::{BranchEntry, BranchReply, MoveBranchRequest};

use super::{Call, Seen, Shared, enter, leave, refuse};

/// The move of the branch that the task's stage has made.
fn own(seen: &Seen) -> Option<BranchEntry> {
    let key = &seen.task.as_ref().unwrap().attempt;
    let is_own = |entry: &&BranchEntry| {
        entry.moved_by.workflow_uid == key.workflow_uid && entry.moved_by.stage == key.stage
    };
    seen.moves.iter().rev().find(is_own).cloned()
}

pub async fn show(State(seen): Shared, headers: HeaderMap) -> Response {
    match enter(&seen, &headers, Call::Branch).await {
        Ok(answer) => {
            let mut reply = BranchReply { tip: None, own: None };
            seen.send_modify(|seen| {
                let lag = usize::from(seen.lagging > 0);
                seen.lagging -= lag;
                reply.tip = seen.moves.iter().rev().nth(lag).cloned();
                reply.own = own(seen);
            });
            leave(answer, Json(reply)).await
        }
        Err(response) => response,
    }
}

pub async fn bundle(State(seen): Shared, headers: HeaderMap) -> Response {
    match enter(&seen, &headers, Call::Tip).await {
        Ok(answer) => {
            let found = {
                let seen = seen.borrow();
                let tip = seen.moves.last();
                tip.and_then(|tip| seen.blobs.get(&tip.workspace.bundle).cloned())
            };
            match found {
                Some(found) => leave(answer, found).await,
                None => refuse(404, "NoBranch"),
            }
        }
        Err(response) => response,
    }
}

pub async fn advance(
    State(seen): Shared,
    headers: HeaderMap,
    Json(request): Json<MoveBranchRequest>,
) -> Response {
    match enter(&seen, &headers, Call::Move).await {
        Ok(answer) => {
            let mut outcome = Err("NoOutcome");
            seen.send_modify(|seen| outcome = made(seen, request));
            match outcome {
                Ok(entry) => leave(answer, Json(entry)).await,
                Err(code) => refuse(409, code),
            }
        }
        Err(response) => response,
    }
}

fn made(seen: &mut Seen, request: MoveBranchRequest) -> Result<BranchEntry, &'static str> {
    let key = seen.task.as_ref().unwrap().attempt.clone();
    if !seen.blobs.contains_key(&request.workspace.bundle) {
        return Err("NoBundle");
    }
    if let Some(own) = own(seen) {
        let same = own.moved_by == key && own.workspace.commit == request.workspace.commit;
        return if same { Ok(own) } else { Err("AlreadyMoved") };
    }
    let from = seen.moves.last().map(|tip| tip.workspace.commit.clone());
    if from != request.expected {
        return Err("BranchMoved");
    }
    let entry = BranchEntry {
        number: seen.moves.len() as u64 + 1,
        workspace: request.workspace,
        from,
        moved_by: key,
        at: Moment::now(),
        outputs: request.outputs,
    };
    seen.moves.push(entry.clone());
    Ok(entry)
}
