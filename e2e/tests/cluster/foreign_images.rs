//! Agents from images that know nothing of Stagecraft, and what an agent can smuggle into the workspace.

use std::time::Duration;

use anyhow::Context as _;
use kube::ResourceExt as _;
use serde_json::json;
use stagecraft_api::payload::EchoFault;
use stagecraft_api::{Agent, Workflow, WorkflowTemplate};
use stagecraft_e2e::scenario::gateway::Gateway;
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, kubectl, scenario};

use crate::history::History;

const LIMIT: Duration = Duration::from_mins(3);

/// An image with a shell and jq: `STAGECRAFT_SHELL_IMAGE`, or the one that `make images` built for the dev cluster.
pub fn shell_image() -> anyhow::Result<String> {
    image("SHELL_IMAGE")
}

/// The image of that name: `STAGECRAFT_NAME`, or the one that `make images` built for the dev cluster.
pub fn image(name: &str) -> anyhow::Result<String> {
    let variable = format!("STAGECRAFT_{name}");
    if let Ok(image) = std::env::var(&variable) {
        return Ok(image);
    }
    let file = kubectl::cache().join("image-references");
    let references = std::fs::read_to_string(&file).with_context(|| {
        format!(
            "{} is not there: run `make images`, or set {variable}",
            file.display()
        )
    })?;
    references
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
        .with_context(|| format!("{} names no {name}: run `make images`", file.display()))
}

/// Uses what the contract promises, and nothing else. Every line fails the script where a promise is not kept.
const SCRIPT: &str = r#"
set -eu
test "$(id -u)" = 65533
test ! -e /var/run/secrets
test "$PWD" = "$STAGECRAFT_WORKSPACE"
test "$(cat from-before.txt)" = 'left by the stage before'
test -n "$ANTHROPIC_API_KEY" && test -n "$OPENAI_API_KEY"
case $ANTHROPIC_BASE_URL$OPENAI_BASE_URL in http://127.0.0.1:*http://127.0.0.1:*) ;; *) exit 4 ;; esac
touch "$HOME/kept" "$TMPDIR/kept"
git init --quiet "$TMPDIR/elsewhere"
wanted=$(jq -r '.project.requirements[0]' "$STAGECRAFT_TASK")
before=$(jq -c '.context.previousOutputs | keys' "$STAGECRAFT_TASK")
printf '%s\n' "$wanted" > requirement.txt
jq -n --arg wanted "$wanted" --argjson before "$before" --arg colour "$COLOUR" \
  '{summary: "did it in a shell", outputs: {wanted: $wanted, before: $before, colour: $colour}}' > "$STAGECRAFT_RESULT"
"#;

#[test]
fn an_image_that_knows_only_the_environment_works_as_a_stage() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let agent = json!({
            "metadata": {"name": "shell"},
            "spec": {
                "image": shell_image()?,
                "command": ["sh", "-c", SCRIPT],
                "env": [{"name": "COLOUR", "value": "green"}, {"name": "HOME", "value": "/nowhere"}],
                "outputsSchema": {"type": "object", "required": ["wanted", "before"]},
            },
        });
        world.create::<Agent>(agent).await?;
        let template = json!({
            "metadata": {"name": "mixed"},
            "spec": {"stages": [
                {"name": "prepare", "agent": "echo", "payload": {"files": {"from-before.txt": "left by the stage before"}}},
                {"name": STAGE, "agent": "shell", "retries": 0},
            ]},
        });
        world.create::<WorkflowTemplate>(template).await?;
        let workflow = json!({
            "metadata": {"name": "mixed"},
            "spec": {"templateRef": {"name": "mixed"}, "project": {"requirements": ["an \"exact\" text: äöü 日本"]}},
        });
        let created = world.create::<Workflow>(workflow).await?;
        let status = world.completed("mixed", LIMIT).await?;
        let done = stage(&status, STAGE)?;
        assert_eq!(done.summary, "did it in a shell");
        let outputs =
            json!({"wanted": "an \"exact\" text: äöü 日本", "before": ["prepare"], "colour": "green"});
        assert_eq!(serde_json::to_value(&done.outputs)?, outputs);

        let workspace = done.workspace.clone().expect("the stage left a commit");
        let gateway = Gateway::reach(&world.client, &world.release).await?;
        let history = History::fetch(world, &gateway, &created.uid().unwrap_or_default(), &workspace).await?;
        assert_eq!(
            history.text(&workspace.commit, "requirement.txt").await?,
            "an \"exact\" text: äöü 日本\n"
        );
        assert_eq!(
            history.text(&workspace.commit, "from-before.txt").await?,
            "left by the stage before"
        );
        Ok(())
    })
}

#[test]
fn an_agent_cannot_reach_out_of_the_workspace_nor_bring_a_git_directory_of_its_own() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let created = world
            .create::<Workflow>(samples::faulty("escape", EchoFault::Escape, None, 0, 60))
            .await?;
        let status = world.completed("escape", LIMIT).await?;
        let workspace = stage(&status, STAGE)?
            .workspace
            .clone()
            .expect("the stage left a commit");
        let gateway = Gateway::reach(&world.client, &world.release).await?;
        let history = History::fetch(world, &gateway, &created.uid().unwrap_or_default(), &workspace).await?;
        let files = history.files(&workspace.commit).await?;
        assert!(!files.is_empty(), "the proper part of the result is missing");
        for (mode, path) in &files {
            let shown = path.display();
            assert!(
                !path.components().any(|part| part.as_os_str() == ".git"),
                "the agent's {shown} was taken in"
            );
            // A link is kept as a link at most: 120000 is a symbolic link, 160000 a repository within.
            assert_ne!(mode, "160000", "{shown} is a repository of the agent's");
            if mode != "120000" {
                let text = history.text(&workspace.commit, &path.to_string_lossy()).await?;
                assert!(
                    !text.contains("root:x:0:0"),
                    "{shown} holds what a link pointed to"
                );
                assert!(!text.contains("eyJhbGciOi"), "{shown} holds a token");
            }
        }
        Ok(())
    })
}
