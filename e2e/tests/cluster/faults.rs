//! Agents that misbehave. Each fault is played twice at once: in the first attempt only, so that a retry succeeds, and in
//! an attempt that is the only one.

use std::time::Duration;

use anyhow::Context as _;
use kube::ResourceExt as _;
use stagecraft_api::error::one_line;
use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::payload::EchoFault;
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowStatus};
use stagecraft_api::{Agent, Moment, Workflow, WorkflowPhase, WorkflowTemplate};
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, on_this_machine, processes, scenario};

const LIMIT: Duration = Duration::from_mins(3);
const END: Duration = Duration::from_mins(2);
/// Longest time from the creation of a Job until the status says why it does not begin.
const NOTICE_MILLIS: u64 = 5_000;
/// Largest Workflow that DESIGN.md allows.
const OBJECT_BYTES: usize = 512 * 1024;

/// How an attempt with a fault has to end.
#[derive(Clone, Copy)]
struct Expected {
    category: Category,
    code: &'static str,
    /// Parts of the message.
    says: &'static [&'static str],
}

fn play(fault: EchoFault, timeout_seconds: u32, expected: Expected) -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        world
            .create::<Workflow>(samples::faulty("given-up", fault, None, 0, timeout_seconds))
            .await?;
        world
            .create::<Workflow>(samples::faulty("retried", fault, Some(1), 1, timeout_seconds))
            .await?;
        gives_up(world, &expected).await?;
        is_retried(world, &expected).await
    })
}

async fn gives_up(world: &World, expected: &Expected) -> anyhow::Result<()> {
    let status = world.failed("given-up", END).await?;
    let stage = stage(&status, STAGE)?;
    assert_eq!(
        (stage.phase, stage.attempt, stage.failures),
        (StagePhase::Failed, 1, 1),
        "{stage:?}"
    );
    let error = stage.error.as_ref().context("a failed stage has an error")?;
    assert_error(error, expected);
    assert!(
        status.message.contains(&one_line(&error.message)),
        "the Workflow's message hides why: {}",
        status.message
    );
    assert!(
        !status.message.contains('\n'),
        "the table of kubectl get is torn apart by {:?}",
        status.message
    );
    small(world, "given-up").await
}

async fn is_retried(world: &World, expected: &Expected) -> anyhow::Result<()> {
    let status = world.completed("retried", END).await?;
    let stage = stage(&status, STAGE)?;
    assert_eq!(
        (stage.attempt, stage.failures, stage.losses),
        (2, 1, 0),
        "{stage:?}"
    );
    let first = stage
        .history
        .first()
        .context("the failed attempt is in the history")?;
    assert_eq!(
        (first.attempt, first.category, first.code.as_str()),
        (1, expected.category, expected.code)
    );
    small(world, "retried").await
}

fn assert_error(error: &StructuredError, expected: &Expected) {
    assert_eq!(
        (error.category, error.code.as_str()),
        (expected.category, expected.code),
        "{error:?}"
    );
    for part in expected.says {
        assert!(
            error.message.contains(part),
            "{part:?} is not in: {}",
            error.message
        );
    }
    let action = error.suggested_action.as_deref().unwrap_or_default();
    assert!(!action.is_empty(), "nothing says what to do about it: {error:?}");
}

async fn small(world: &World, name: &str) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(&world.api::<Workflow>().get(name).await?)?.len();
    assert!(bytes < OBJECT_BYTES, "Workflow {name} has {bytes} bytes");
    Ok(())
}

#[test]
fn an_agent_that_exits_with_a_status_fails_the_attempt() -> anyhow::Result<()> {
    let expected = Expected {
        category: Category::Execution,
        code: "AgentExited",
        says: &["status 3"],
    };
    play(EchoFault::Exit, 60, expected)
}

#[test]
fn an_agent_that_reports_an_error_fails_the_attempt_with_it() -> anyhow::Result<()> {
    let expected = Expected {
        category: Category::Execution,
        code: "EchoFault",
        says: &[],
    };
    play(EchoFault::Report, 60, expected)
}

#[test]
fn an_agent_that_hangs_is_stopped_at_its_time_limit() -> anyhow::Result<()> {
    let expected = Expected {
        category: Category::Timeout,
        code: "StageTimeout",
        says: &["10 s"],
    };
    play(EchoFault::Hang, 10, expected)
}

#[test]
fn an_agent_that_leaks_memory_fails_the_attempt_for_want_of_memory() -> anyhow::Result<()> {
    let expected = Expected {
        category: Category::Resource,
        code: "OutOfMemory",
        says: &["memory"],
    };
    play(EchoFault::LeakMemory, 60, expected)
}

#[test]
fn an_agent_without_a_result_fails_the_attempt() -> anyhow::Result<()> {
    let expected = Expected {
        category: Category::Validation,
        code: "ResultMissing",
        says: &["wrote no result"],
    };
    play(EchoFault::NoResult, 60, expected)
}

#[test]
fn a_result_that_is_not_json_fails_the_attempt() -> anyhow::Result<()> {
    let expected = Expected {
        category: Category::Validation,
        code: "ResultMalformed",
        says: &["the result file", "line 1"],
    };
    play(EchoFault::MalformedResult, 60, expected)
}

#[test]
fn a_result_of_50_megabytes_fails_the_attempt_and_never_reaches_the_status() -> anyhow::Result<()> {
    let expected = Expected {
        category: Category::Validation,
        code: "ResultTooLarge",
        says: &["262144"],
    };
    play(EchoFault::HugeResult, 60, expected)
}

#[test]
fn outputs_over_the_limit_fail_the_attempt_and_never_reach_the_status() -> anyhow::Result<()> {
    let expected = Expected {
        category: Category::Validation,
        code: "OutputsTooLarge",
        says: &["8192"],
    };
    play(EchoFault::HugeOutputs, 60, expected)
}

#[test]
fn an_agent_that_kills_itself_fails_the_attempt() -> anyhow::Result<()> {
    let expected = Expected {
        category: Category::Execution,
        code: "AgentExited",
        says: &["signal 9"],
    };
    play(EchoFault::KillSelf, 60, expected)
}

#[test]
fn children_that_an_agent_leaves_behind_hold_up_nothing_and_are_gone() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let mut workflow = samples::faulty("forked", EchoFault::ForkChild, None, 0, 60);
        samples::set(
            &mut workflow,
            "/spec/stages/0/payload",
            "sleepMillis",
            2_000.into(),
        );
        world.create::<Workflow>(workflow).await?;
        let pod = world.running_pod("forked", STAGE, 1, END).await?;
        let status: WorkflowStatus = world.completed("forked", END).await?;
        assert_eq!(stage(&status, STAGE)?.attempt, 1);
        let name = pod.name_any();
        let pods = world.api();
        let ended = kube::runtime::wait::await_condition(
            pods,
            &name,
            |pod: Option<&k8s_openapi::api::core::v1::Pod>| {
                pod.is_none_or(|pod| {
                    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                    matches!(phase, Some("Succeeded" | "Failed"))
                })
            },
        );
        tokio::time::timeout(Duration::from_secs(30), ended).await??;
        if on_this_machine() {
            let left = processes::of_container(&pod, "agent")?;
            assert!(left.is_empty(), "still running: {left:?}");
        }
        Ok(())
    })
}

/// A Workflow `hog` whose one stage runs a script in an image with a shell, under limits.
async fn hog(world: &World, script: &str, limits: serde_json::Value) -> anyhow::Result<()> {
    let agent = serde_json::json!({
        "metadata": {"name": "hog"},
        "spec": {
            "image": crate::foreign_images::shell_image()?,
            "command": ["sh", "-c", script],
            "resources": {"limits": limits},
        },
    });
    world.create::<Agent>(agent).await?;
    let template = serde_json::json!({
        "metadata": {"name": samples::SINGLE},
        "spec": {"stages": [{"name": STAGE, "agent": "hog", "retries": 0, "timeoutSeconds": 120}]},
    });
    world.create::<WorkflowTemplate>(template).await?;
    let workflow = samples::single("hog", serde_json::json!({}));
    world.create::<Workflow>(workflow).await?;
    Ok(())
}

async fn fails_for_want_of(world: &World, code: &'static str, what: &'static str) -> anyhow::Result<()> {
    let last = ends_for_want_of(world, code, what).await?;
    assert_eq!(last.attempt, 1, "{last:?}");
    Ok(())
}

/// The stage whose only failure that counts is this one.
async fn ends_for_want_of(
    world: &World,
    code: &'static str,
    what: &'static str,
) -> anyhow::Result<StageStatus> {
    let status = world.failed("hog", END).await?;
    let stage = stage(&status, STAGE)?;
    let error = stage.error.as_ref().context("a failed stage has an error")?;
    let expected = Expected {
        category: Category::Resource,
        code,
        says: &[],
    };
    assert_error(error, &expected);
    assert!(error.message.contains(what), "{}", error.message);
    assert_eq!(stage.failures, 1, "{stage:?}");
    Ok(stage.clone())
}

#[test]
fn memory_that_takes_the_launcher_along_fails_the_attempt_for_want_of_memory() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        // Memory of a file in /dev/shm belongs to nobody: whatever process is largest is killed for it, again and again,
        // until the launcher, the first process of the container, is the largest that is left.
        let script = "while :; do cat /dev/zero >> /dev/shm/hog; done";
        hog(world, script, serde_json::json!({"memory": "24Mi"})).await?;
        let stage = ends_for_want_of(world, "OutOfMemory", "memory").await?;
        // Containerd may lose the notice when it is the first process of a container that is killed for memory. Nobody else knows then: the
        // attempt counts as taken away, costs nothing, and the next one shows it.
        for attempt in stage.history.iter().filter(|one| one.attempt < stage.attempt) {
            println!(
                "attempt {}: the container runtime missed that memory had run out",
                attempt.attempt
            );
            assert_eq!(attempt.code, "AgentContainerKilled", "{stage:?}");
        }
        Ok(())
    })
}

#[test]
fn an_agent_that_fills_its_disk_fails_the_attempt_for_want_of_disk() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let script = "head -c 64M /dev/zero > hog; sleep 300";
        hog(world, script, serde_json::json!({"ephemeral-storage": "16Mi"})).await?;
        fails_for_want_of(world, "OutOfDisk", "more disk than its limit").await
    })
}

#[test]
fn an_image_that_cannot_be_pulled_shows_within_five_seconds_and_can_be_cancelled() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let agent = serde_json::json!({
            "metadata": {"name": "missing"},
            "spec": {"image": "localhost:1/nobody/nothing:1", "command": ["true"]},
        });
        world.create::<Agent>(agent).await?;
        let template = serde_json::json!({
            "metadata": {"name": samples::SINGLE},
            "spec": {"stages": [{"name": STAGE, "agent": "missing"}]},
        });
        world.create::<WorkflowTemplate>(template).await?;
        world
            .create::<Workflow>(samples::single("unpulled", serde_json::json!({})))
            .await?;
        let told = world
            .until(
                "unpulled",
                END,
                "says that its image cannot be pulled",
                |status| status.message.contains("localhost:1/nobody/nothing:1"),
            )
            .await?;
        let noticed = Moment::now();
        let status = told.status.context("it has a status")?;
        let begun = stage(&status, STAGE)?
            .attempt_started_at
            .context("an attempt has begun")?;
        let took = noticed.millis_since(begun);
        println!("{} (after {took} ms)", status.message);
        assert!(took <= NOTICE_MILLIS, "noticed after {took} ms");
        crate::owner::patch(world, "unpulled", serde_json::json!({"cancel": true})).await?;
        world
            .until("unpulled", END, "is cancelled", |status| {
                status.phase == WorkflowPhase::Cancelled
            })
            .await?;
        Ok(())
    })
}
